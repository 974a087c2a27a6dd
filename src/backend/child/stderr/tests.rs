use tokio::io::AsyncWriteExt;

use super::{Stderr, TAIL_LEN, Tag};
use crate::{drain::Drain, secret::Secret};

/// What is kept of `chunks`, written one by one.
async fn tail(chunks: &[&[u8]], env: &[(String, Secret)]) -> Vec<u8> {
    let drain = Drain::new();
    let (mut theirs, ours) = tokio::io::duplex(8);
    let tag = Tag {
        backend: "files".to_owned(),
        instance: "1".to_owned(),
    };
    let stderr = Stderr::drain(ours, tag, env, &drain);
    for chunk in chunks {
        theirs.write_all(chunk).await.unwrap();
    }
    drop(theirs);
    drain.wait().await;
    stderr.tail()
}

#[tokio::test]
async fn the_end_is_kept_and_no_more() {
    let line = [b'x'; 1000];
    let lines: Vec<&[u8]> = (0..100).map(|_| line.as_slice()).collect();
    let tail = tail(&[&lines.concat(), b"the end"], &[]).await;
    assert_eq!(tail.len(), TAIL_LEN);
    assert!(tail.ends_with(b"xxthe end"));
}

#[tokio::test]
async fn secrets_of_the_environment_are_masked() {
    let env = [("TOKEN".to_owned(), Secret::new("hunter2hunter2"))];
    let tail = tail(&[b"token hunter2", b"hunter2 leaked\n"], &env).await;
    assert_eq!(tail, b"token [secret] leaked\n");
}

#[tokio::test]
async fn control_characters_are_kept_as_text() {
    assert_eq!(
        tail(&[b"a\x1b[2Jb\nc\xff"], &[]).await,
        b"a\\u{1b}[2Jb\nc\\xff"
    );
}
