//! Restart, rotation, and files that are not the log's own.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

use super::*;

async fn run(config: &Config, ids: std::ops::Range<u32>) {
    let log = Log::open(config).unwrap();
    for id in ids {
        drop(
            log.admit(&request(id.to_string().as_bytes()))
                .await
                .unwrap(),
        );
    }
    log.stop().await;
}

fn live(dir: &Path) -> PathBuf {
    dir.join("gatehouse.jsonl")
}

fn append(dir: &Path, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.append(true).open(live(dir)).unwrap();
    file.write_all(bytes).unwrap();
}

#[tokio::test]
async fn a_restart_goes_on_with_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    run(&config(dir.path()), 0..2).await;
    run(&config(dir.path()), 2..3).await;
    let lines = lines(dir.path());
    assert_eq!(
        names(&lines),
        [
            "gateway.start",
            "request",
            "response",
            "request",
            "response",
            "gateway.stop",
            "gateway.start",
            "request",
            "response",
            "gateway.stop"
        ]
    );
    assert_eq!(lines[0]["prev"], "0".repeat(64));
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_said() {
    for torn in [&b"{\"seq\":5,\"ti"[..], &[0; 5000], &[b'x'; 300_000]] {
        let dir = tempfile::tempdir().unwrap();
        run(&config(dir.path()), 0..1).await;
        append(dir.path(), torn);
        assert!(verify::files(&[live(dir.path())], &[]).is_err());
        run(&config(dir.path()), 1..2).await;
        let lines = lines(dir.path());
        let detail = lines[4]["detail"].as_str().unwrap();
        assert!(
            detail.ends_with(&format!(
                "; {} bytes of an unfinished event were cut off",
                torn.len()
            )),
            "{detail}"
        );
        assert_eq!(lines.len(), 8);
    }
}

#[tokio::test]
async fn a_file_that_only_has_half_a_line_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(live(dir.path()), "{\"seq\":1").unwrap();
    run(&config(dir.path()), 0..1).await;
    assert_eq!(lines(dir.path())[0]["seq"], 1);
}

#[tokio::test]
async fn a_long_last_line_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let args = format!("[\"{}\"]", "\u{7f}".repeat(60_000));
    let event = Event {
        args: Some(args.as_bytes()),
        ..Event::new(Name::Notification)
    };
    log.decide(&event).await.unwrap();
    log.stop().await;
    let text = fs::read_to_string(live(dir.path())).unwrap();
    let (before, _) = text.trim_end().rsplit_once('\n').unwrap();
    fs::write(live(dir.path()), format!("{before}\n")).unwrap();
    run(&config(dir.path()), 0..1).await;
    assert_eq!(lines(dir.path()).len(), 6);
}

#[tokio::test]
async fn a_damaged_end_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    run(&config(dir.path()), 0..1).await;
    let before = fs::read_to_string(live(dir.path())).unwrap();
    for damaged in [
        before.replacen("read_file", "read_fils", 1),
        before.clone() + "{}\n",
        before.clone() + "\n",
        before.clone() + before.lines().last().unwrap() + "\n",
    ] {
        fs::write(live(dir.path()), &damaged).unwrap();
        let opened = Log::open(&config(dir.path()));
        assert!(
            matches!(opened, Err(OpenError::Damaged { .. })),
            "{damaged}"
        );
        assert_eq!(fs::read_to_string(live(dir.path())).unwrap(), damaged);
    }
}

#[tokio::test]
async fn files_are_put_away_in_order_and_the_chain_goes_through_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        rotate: 2000,
        sign_key: Some(dir.path().join("sign")),
        ..config(dir.path())
    };
    run(&config, 0..20).await;
    run(&config, 20..40).await;
    let files = log_files(dir.path());
    assert!(files.len() > 5, "{files:?}");
    assert_eq!(files.last(), Some(&live(dir.path())));
    let mut before = "0".repeat(64);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(first["prev"], before.as_str());
        assert!(last.contains("\"event\":\"checkpoint\""), "{last}");
        before = text::hex_string(&text::sha256(last.as_bytes()));
        let (first, last): (u64, Value) = (
            first["seq"].as_u64().unwrap(),
            serde_json::from_str(last).unwrap(),
        );
        let name = format!(
            "gatehouse.{first:016}-{:016}.jsonl",
            last["seq"].as_u64().unwrap()
        );
        assert!(file.ends_with(name) || file == &live(dir.path()));
    }
    let public = PublicKey::load(&dir.path().join("sign.pub")).unwrap();
    let shuffled: Vec<_> = files.iter().rev().cloned().collect();
    let report = verify::files(&shuffled, &[public]).unwrap();
    assert!(report.stopped && report.unsigned_since.is_none());
    assert_eq!(report.seq, (1, report.events));
    // Without its middle it doesn't hold.
    let gap: Vec<_> = files
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 2)
        .collect();
    let gap: Vec<_> = gap.into_iter().map(|(_, file)| file.clone()).collect();
    let error = verify::files(&gap, &[]).unwrap_err().to_string();
    assert!(error.contains("are missing before it"), "{error}");
}

#[tokio::test]
async fn a_stop_between_two_files_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    run(&config(dir.path()), 0..1).await;
    let away = dir
        .path()
        .join("gatehouse.0000000000000001-0000000000000004.jsonl");
    fs::rename(live(dir.path()), &away).unwrap();
    run(&config(dir.path()), 1..2).await;
    assert_eq!(lines(dir.path()).len(), 8);
    fs::rename(
        live(dir.path()),
        dir.path()
            .join("gatehouse.0000000000000005-0000000000000008.jsonl"),
    )
    .unwrap();
    fs::write(live(dir.path()), "").unwrap();
    run(&config(dir.path()), 2..3).await;
    assert_eq!(lines(dir.path()).len(), 12);
}

#[tokio::test]
async fn two_gateways_do_not_write_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let second = Log::open(&config(dir.path()));
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    log.stop().await;
}

#[test]
fn a_file_that_others_have_a_say_in_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = || matches!(Log::open(&config(dir.path())), Err(OpenError::Unfit { .. }));
    let (live, other) = (live(dir.path()), dir.path().join("other"));
    fs::write(&other, "").unwrap();
    std::os::unix::fs::symlink(&other, &live).unwrap();
    assert!(refused());
    fs::remove_file(&live).unwrap();
    fs::hard_link(&other, &live).unwrap();
    assert!(refused());
    fs::remove_file(&other).unwrap();
    fs::set_permissions(&live, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(refused());
    fs::remove_file(&live).unwrap();
    fs::create_dir(&live).unwrap();
    assert!(refused());
}

#[tokio::test]
async fn what_is_made_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        path: Destination::File(dir.path().join("new/folder/log.jsonl")),
        ..config(dir.path())
    };
    run(&config, 0..1).await;
    let mode = |path: &str| {
        let meta = fs::metadata(dir.path().join(path)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode("new/folder"), 0o700);
    for file in ["log.jsonl", "log.jsonl.key", "log.jsonl.lock"] {
        assert_eq!(mode(&format!("new/folder/{file}")), 0o600);
    }
}

#[tokio::test]
async fn digests_are_equal_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        arguments: Arguments::Digest,
        ..config(dir.path())
    };
    for _ in 0..2 {
        let log = Log::open(&config).unwrap();
        let event = Event {
            args: Some(b"{\"pin\":1234}"),
            ..request(b"1")
        };
        log.decide(&event).await.unwrap();
        log.stop().await;
    }
    let lines = lines(dir.path());
    assert_eq!(lines[1]["args"], lines[4]["args"]);
    assert_eq!(lines[1]["args"]["bytes"], 12);
    let plain = text::hex_string(&text::sha256(b"{\"pin\":1234}"));
    assert_ne!(lines[1]["args"]["hmac_sha256"], plain.as_str());
}

#[tokio::test]
async fn a_reload_changes_settings_without_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let first = Log::open(&config(dir.path())).unwrap();
    let event = Event {
        args: Some(b"[1]"),
        ..request(b"1")
    };
    first.decide(&event).await.unwrap();
    let changed = Config {
        arguments: Arguments::None,
        sign_key: Some(dir.path().join("sign")),
        ..config(dir.path())
    };
    let second = first.reopen(&changed, &[]).unwrap();
    let bad = Config {
        redact: vec!["(".to_owned()],
        ..config(dir.path())
    };
    assert!(matches!(
        second.reopen(&bad, &[]),
        Err(OpenError::Pattern(_))
    ));
    second.decide(&event).await.unwrap();
    drop(first);
    second.stop().await;
    let lines = lines(dir.path());
    assert_eq!(
        names(&lines),
        [
            "gateway.start",
            "request",
            "request",
            "gateway.stop",
            "checkpoint"
        ]
    );
    assert!(lines[1]["args"].is_array() && lines[2]["args"].is_null());
}

#[tokio::test]
async fn a_log_that_was_moved_away_is_begun_anew_with_the_same_chain() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let away = dir.path().join("away.jsonl");
    fs::rename(live(dir.path()), &away).unwrap();
    // The thread looks, when it writes outcomes.
    while !live(dir.path()).exists() {
        log.note(&Event::new(Name::SessionClose));
        tokio::task::yield_now().await;
    }
    log.stop().await;
    verify::files(&[away, live(dir.path())], &[]).unwrap();
}

#[tokio::test]
async fn another_file_in_its_place_is_not_written_to_and_refuses_calls() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&config(dir.path())).unwrap();
    let away = dir.path().join("away.jsonl");
    fs::rename(live(dir.path()), &away).unwrap();
    fs::write(live(dir.path()), "mine").unwrap();
    while log.decide(&request(b"1")).await.is_ok() {
        log.note(&Event::new(Name::SessionClose));
    }
    assert_eq!(fs::read(live(dir.path())).unwrap(), b"mine");
    fs::remove_file(live(dir.path())).unwrap();
    while log.decide(&request(b"1")).await.is_err() {}
    log.stop().await;
    verify::files(&[away, live(dir.path())], &[]).unwrap();
}

#[tokio::test]
async fn what_would_keep_it_from_opening_is_told_without_making_anything() {
    let dir = tempfile::tempdir().unwrap();
    let good = Config {
        sign_key: Some(dir.path().join("sign")),
        ..config(dir.path())
    };
    good.examine().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let pattern = Config {
        redact: vec!["(".to_owned()],
        ..good.clone()
    };
    assert!(matches!(pattern.examine(), Err(OpenError::Pattern(_))));
    run(&good, 0..1).await;
    good.examine().unwrap();
    fs::set_permissions(live(dir.path()), fs::Permissions::from_mode(0o602)).unwrap();
    assert!(matches!(good.examine(), Err(OpenError::Unfit { .. })));
    fs::write(dir.path().join("sign"), "x").unwrap();
    assert!(matches!(good.examine(), Err(OpenError::NotKey { .. })));
}
