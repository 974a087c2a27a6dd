//! Looking at processes from outside.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// An argument to `sleep` that no other process on the machine has.
pub(crate) fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("86400.{:010}{count:05}", std::process::id())
}

/// The processes that run exactly `sleep MARK`.
pub(crate) fn sleepers(mark: &str) -> Vec<i32> {
    let wanted = format!("sleep\0{mark}\0");
    pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == wanted.as_bytes())
        })
        .collect()
}

/// Waits until as many processes run `sleep MARK`.
pub(crate) async fn until_sleepers(mark: &str, count: usize) {
    until(&format!("{count} processes sleep"), || {
        sleepers(mark).len() == count
    })
    .await;
}

/// Waits for a condition, for longer than it can take on any machine.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What `/proc/PID/stat` says: state, parent, group, session.
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) session: i32,
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields[0].chars().next()?,
        parent: fields[1].parse().ok()?,
        session: fields[3].parse().ok()?,
    })
}

/// All that descends from `root`, zombies included, `root` not.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    let parents: BTreeMap<i32, i32> = pids()
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let descends = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == root {
                return true;
            }
            pid = *parent;
        }
        false
    };
    parents
        .keys()
        .copied()
        .filter(|pid| descends(*pid))
        .collect()
}

/// The open descriptors of a process and what they are.
pub(crate) fn descriptors(pid: i32) -> BTreeMap<i32, PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            // One that was closed meanwhile is not open.
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

/// A line of `/proc/PID/status`.
pub(crate) fn status_line(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
