//! Who writes on when a writer has done his rounds.

use tokio::sync::oneshot::Receiver;

use super::*;

/// Two decisions that came while somebody wrote.
fn two(log: &Log) -> (Receiver<Word>, Receiver<Word>) {
    let shared = shared(log);
    shared.queue.lock().busy = true;
    let mut waiting = [b"\"event\":\"request\"", b"\"event\":\"session\""]
        .map(|middle| match shared.submit(middle) {
            Submitted::Waits(told) => told,
            _ => panic!("nobody waits for the one who writes"),
        })
        .into_iter();
    (waiting.next().unwrap(), waiting.next().unwrap())
}

/// He has done his rounds.
fn hand_over(log: &Log) {
    let shared = shared(log);
    let mut queue = shared.queue.lock();
    queue.busy = false;
    shared.hand_over(queue);
}

fn shared(log: &Log) -> Arc<Shared> {
    log.inner.as_ref().unwrap().0.shared.clone()
}

#[tokio::test]
async fn whoever_waits_longest_writes_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let (first, second) = two(&log);
    hand_over(&log);
    let (first, second) = tokio::join!(told(first), told(second));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(shared(&log).queue.lock().decisions, 0);
}

#[tokio::test]
async fn nobody_waits_for_a_writer_who_had_gone_when_he_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let (first, second) = two(&log);
    drop(first);
    hand_over(&log);
    assert_eq!(told(second).await, Ok(()));
}

#[tokio::test]
async fn nobody_waits_for_a_writer_who_goes_before_he_has_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let (first, second) = two(&log);
    hand_over(&log);
    drop(first);
    assert_eq!(told(second).await, Ok(()));
}

#[tokio::test]
async fn a_call_is_not_recorded_in_a_file_that_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    log.admit(&request(b"1")).await.unwrap().forget();
    fs::remove_file(dir.path().join("gatehouse.jsonl")).unwrap();
    {
        let shared = shared(&log);
        let mut sink = shared.sink.lock();
        sink.looked = sink.looked.checked_sub(Duration::from_secs(1)).unwrap();
    }
    log.admit(&request(b"2")).await.unwrap().forget();
    let text = fs::read_to_string(dir.path().join("gatehouse.jsonl")).unwrap();
    assert!(text.contains("\"id\":2"), "{text}");
}
