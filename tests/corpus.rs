//! Replays the fuzzers' corpus, so that every input that once mattered is tried on every run.

use std::{fs, path::Path};

use gatehouse::{
    auth::jwt::fuzz_token, codec::fuzz_codec, frame::fuzz_envelope, policy::fuzz_policy,
};

/// Feeds each file of a corpus to its target; gives how many there were.
fn replay(corpus: &str, target: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(corpus);
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read(file.path()).ok())
        .map(|input| target(&input))
        .count()
}

#[test]
fn the_envelope_corpus_keeps_every_promise() {
    assert!(replay("envelope", fuzz_envelope) > 20);
}

#[test]
fn the_codec_corpus_keeps_every_promise() {
    assert!(replay("codec", fuzz_codec) > 5);
}

#[test]
fn the_policy_corpus_keeps_every_promise() {
    assert!(replay("policy", fuzz_policy) > 40);
}

#[test]
fn the_token_corpus_keeps_every_promise() {
    assert!(replay("token", fuzz_token) > 20);
}
