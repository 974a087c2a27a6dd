//! Processes as the kernel shows them: the gateway's memory, descriptors and descendants.

use std::{collections::BTreeMap, fs};

use nix::unistd::Pid;

use crate::rig::until;

/// A figure of `/proc/PID/status` in KiB, as `VmHWM`.
pub(crate) fn memory(pid: Pid, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.expect("a known name").trim_start_matches(':').trim();
    let number = value.split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

/// The most memory that a process ever had, MiB.
pub(crate) fn peak_mib(pid: Pid) -> usize {
    memory(pid, "VmHWM") / 1024
}

/// Lets the peak begin anew.
pub(crate) fn forget_peak(pid: Pid) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of ours");
}

/// Open descriptors.
pub(crate) fn descriptors(pid: Pid) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process");
    open.count()
}

/// All that descends from a process, itself not; with the command lines.
pub(crate) fn descendants(root: Pid) -> Vec<(i32, String)> {
    let parents: BTreeMap<i32, i32> = pids().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let descends = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == root.as_raw() {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let of_root = parents.keys().copied().filter(|pid| descends(*pid));
    of_root.map(|pid| (pid, command_line(pid))).collect()
}

/// Processes of which one argument is this.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let argument = format!("\0{mark}\0");
    pids()
        .filter(|pid| command_line(*pid).contains(&argument))
        .collect()
}

/// Waits until so many processes have this argument.
pub(crate) async fn until_marked(mark: &str, count: usize) {
    let what = format!("{count} processes that are marked {mark}");
    until(&what, || marked(mark).len() == count).await;
}

fn pids() -> impl Iterator<Item = i32> {
    let all = fs::read_dir("/proc").expect("a /proc");
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// Arguments, each with a NUL behind it; empty for a zombie.
fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}
