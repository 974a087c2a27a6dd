//! What must hold for every text, checked by the fuzzer and over its corpus.

use bytes::Bytes;

use super::{Frame, Slot, salvage_id};

/// Reads `text` as a client's and as a child's message and checks what the module promises.
///
/// # Panics
/// When a promise is broken.
#[doc(hidden)]
pub fn fuzz_envelope(text: &[u8]) {
    let text = Bytes::copy_from_slice(text);
    let _ = salvage_id(&text);
    let strict = Frame::from_client(text.clone());
    let tolerant = Frame::from_child(text.clone());
    if let Ok(frame) = &strict {
        let same = tolerant
            .as_ref()
            .is_ok_and(|other| other.bytes() == frame.bytes());
        assert!(same, "a strict message is a tolerant one");
    }
    for frame in strict.iter().chain(&tolerant) {
        check(frame);
    }
    let batches = [
        Frame::batch_from_client(text.clone(), 8).ok(),
        Frame::batch_from_child(text, 8).ok(),
    ];
    for frames in batches.iter().flatten() {
        assert!(
            (1..=8).contains(&frames.len()),
            "the size of a batch is bounded"
        );
        frames.iter().for_each(check);
    }
}

fn check(frame: &Frame) {
    let bytes = frame.bytes();
    assert!(!bytes.iter().any(|byte| *byte < 0x20), "one line");
    let text = std::str::from_utf8(bytes).unwrap_or("\n");
    assert!(
        !text.contains(['\n', '\u{85}', '\u{2028}', '\u{2029}']),
        "one line everywhere"
    );
    let again = Frame::from_child(bytes.clone());
    assert!(
        again.is_ok_and(|again| again.bytes() == bytes && again.spans == frame.spans),
        "what was read is read again the same"
    );
    let edits = [
        (Slot::Id, &b"18446744073709551615"[..]),
        (Slot::ProgressToken, b"\"t\""),
        (Slot::CancelledId, b"7"),
    ];
    let changed = frame.rewritten(&edits);
    let again = Frame::from_child(changed.bytes().clone());
    assert!(
        again.is_ok_and(|again| again.spans == changed.spans && again.kind == frame.kind),
        "spans follow a rewrite"
    );
    let back = [
        (Slot::Id, frame.id().unwrap_or_default()),
        (
            Slot::ProgressToken,
            frame.progress_token().unwrap_or_default(),
        ),
        (Slot::CancelledId, frame.cancelled_id().unwrap_or_default()),
    ];
    assert!(
        changed.rewritten(&back).bytes() == bytes,
        "a rewrite can be undone"
    );
}
