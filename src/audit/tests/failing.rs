//! Disks that are full, slow or broken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::audit::store::{Store, Sync as Syncs};

/// A disk whose failures the test decides on.
#[derive(Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    full: AtomicBool,
    sync_fails: AtomicBool,
    stuck: Mutex<bool>,
    moves: Condvar,
}

struct DiskStore(Arc<Disk>);

struct DiskSync(Arc<Disk>);

impl Syncs for DiskSync {
    fn sync(&self) -> io::Result<()> {
        if self.0.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("EIO"));
        }
        Ok(())
    }
}

impl Store for DiskStore {
    fn append(&mut self, lines: &[u8], _first: u64) -> io::Result<()> {
        let mut stuck = self.0.stuck.lock();
        while *stuck {
            self.0.moves.wait(&mut stuck);
        }
        if self.0.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.bytes.lock().extend_from_slice(lines);
        Ok(())
    }

    fn take_back(&mut self, bytes: usize) -> io::Result<()> {
        let mut all = self.0.bytes.lock();
        let left = all.len() - bytes;
        all.truncate(left);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.0.bytes.lock().len() as u64
    }

    fn syncer(&self) -> Option<Arc<dyn Syncs>> {
        Some(Arc::new(DiskSync(self.0.clone())))
    }

    fn rotate(&mut self, _last: u64) -> io::Result<()> {
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk {
    fn set_stuck(&self, stuck: bool) {
        *self.stuck.lock() = stuck;
        self.moves.notify_all();
    }

    fn lines(&self) -> Vec<Value> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.jsonl"), &*self.bytes.lock()).unwrap();
        lines(dir.path())
    }
}

fn open(change: impl FnOnce(&mut Config)) -> (Log, Arc<Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.arguments = Arguments::None;
    change(&mut config);
    let disk = Arc::new(Disk::default());
    let sink = Sink::new(Box::new(DiskStore(disk.clone())), Chain::EMPTY, None);
    let settings = Settings::new(&config).unwrap();
    (
        Log::start(settings, sink, &Repair::default()).unwrap(),
        disk,
    )
}

/// Asks until the log works again; each attempt waits for the next try of the disk.
async fn recovered(log: &Log) {
    while log.decide(&Event::new(Name::Notification)).await.is_err() {}
}

#[tokio::test]
async fn a_full_disk_refuses_calls_keeps_outcomes_and_recovers() {
    let (log, disk) = open(|_| {});
    let before = log.admit(&request(b"1")).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(
            log.admit(&request(b"2")).await.unwrap_err(),
            Unrecorded::Failed
        );
    }
    assert!(!log.health().unwrap().ok);
    before.finish(Outcome::new(Status::Ok));
    disk.full.store(false, Ordering::SeqCst);
    recovered(&log).await;
    assert!(log.health().unwrap().ok);
    log.stop().await;
    let lines = disk.lines();
    let ids: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "response")
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(
        (&ids[0]["id"], &ids[0]["status"]),
        (&json!(1), &json!("ok"))
    );
    let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
    assert!(lost >= 3, "{lines:?}");
    assert_eq!(lost, log.health().unwrap().lost);
}

#[tokio::test]
async fn what_was_lost_is_said_even_if_nothing_else_happens() {
    let (log, disk) = open(|_| {});
    disk.full.store(true, Ordering::SeqCst);
    assert!(log.decide(&request(b"1")).await.is_err());
    disk.full.store(false, Ordering::SeqCst);
    while !log.health().unwrap().ok {
        tokio::task::yield_now().await;
    }
    let lines = disk.lines();
    assert_eq!(names(&lines), ["gateway.start", "denied"]);
    assert_eq!(
        (&lines[1]["status"], &lines[1]["lost"]),
        (&json!("unrecorded"), &json!(1))
    );
}

#[tokio::test]
async fn with_allow_calls_go_on_and_are_recorded_later() {
    let (log, disk) = open(|config| config.on_error = OnError::Allow);
    disk.full.store(true, Ordering::SeqCst);
    for id in ["1", "2", "3"] {
        let pending = log.admit(&request(id.as_bytes())).await.unwrap();
        pending.finish(Outcome::new(Status::Ok));
    }
    disk.full.store(false, Ordering::SeqCst);
    log.stop().await;
    let lines = disk.lines();
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "request")
        .collect();
    assert_eq!(requests.len(), 3);
    assert_eq!(log.health().unwrap().lost, 0);
}

#[tokio::test]
async fn a_decision_that_could_not_be_synced_is_taken_back() {
    let (log, disk) = open(|config| config.sync = Sync::Always);
    disk.sync_fails.store(true, Ordering::SeqCst);
    assert_eq!(
        log.admit(&request(b"1")).await.unwrap_err(),
        Unrecorded::Failed
    );
    assert_eq!(disk.lines().len(), 1);
    disk.sync_fails.store(false, Ordering::SeqCst);
    recovered(&log).await;
    log.stop().await;
    assert!(!disk.lines().iter().any(|line| line["event"] == "request"));
}

#[tokio::test]
async fn a_failed_sync_in_the_background_refuses_what_comes_after() {
    let (log, disk) = open(|config| config.sync = Sync::Batch);
    disk.sync_fails.store(true, Ordering::SeqCst);
    while log.decide(&request(b"1")).await.is_ok() {}
    disk.sync_fails.store(false, Ordering::SeqCst);
    recovered(&log).await;
    log.stop().await;
    disk.lines();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_that_does_not_answer_refuses_calls_and_the_log_says_so_later() {
    // The thread writes, as callers would be stuck with the disk.
    let (log, disk) = open(|config| config.sync = Sync::Always);
    disk.set_stuck(true);
    assert_eq!(
        log.admit(&request(b"1")).await.unwrap_err(),
        Unrecorded::Slow
    );
    disk.set_stuck(false);
    log.stop().await;
    let lines = disk.lines();
    let told: Vec<_> = lines.iter().filter(|line| line["id"] == 1).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["status"], "unrecorded");
}

#[test]
fn a_queue_that_is_full_refuses_decisions_first_and_counts_what_it_drops() {
    let mut queue = queue::Queue::default();
    let event = [b'x'; 64 * 1024];
    let mut taken = 0;
    while queue.push_decision(0, &event).is_ok() {
        taken += 1;
    }
    assert_eq!(queue.push_decision(0, b"x"), Err(Unrecorded::Full));
    let mut notes = 0;
    while queue.push_note(0, &event) {
        notes += 1;
    }
    assert!(notes > 2 * taken, "{notes} {taken}");
    assert_eq!(queue.lost, 3);
}

#[tokio::test]
async fn after_the_stop_nothing_is_admitted() {
    let (log, disk) = open(|_| {});
    log.stop().await;
    assert_eq!(
        log.admit(&request(b"1")).await.unwrap_err(),
        Unrecorded::Closed
    );
    log.note(&Event::new(Name::SessionClose));
    log.stop().await;
    assert_eq!(names(&disk.lines()), ["gateway.start", "gateway.stop"]);
}
