//! What the kernel says about a process: processor time and memory, from `/proc`.

use std::collections::HashMap;
use std::fs;

/// Processor time in microseconds.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cpu {
    /// The process itself, all its threads.
    pub own: u64,
    /// Its living descendants.
    pub descendants: u64,
}

impl Cpu {
    /// What was used since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            own: self.own.saturating_sub(before.own),
            descendants: self.descendants.saturating_sub(before.descendants),
        }
    }
}

/// Memory in KiB.
#[derive(Debug, Default, Clone, Copy)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident, each shared page divided by its sharers.
    pub pss: u64,
}

/// Linux counts process times in hundredths of a second towards programs on every architecture.
const TICK_US: u64 = 10_000;
const NANOS_IN_US: u64 = 1_000;

/// Reads the processor time of `pid` and its descendants; zero for what is gone.
#[must_use]
pub fn cpu(pid: u32) -> Cpu {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks_of = HashMap::new();
    for id in processes() {
        if let Some((parent, ticks)) = stat(id) {
            children.entry(parent).or_default().push(id);
            ticks_of.insert(id, ticks);
        }
    }
    let time = |id| {
        ticks_of
            .get(&id)
            .map_or(0, |ticks| (ticks * TICK_US).max(scheduled(id)))
    };
    let mut found = Cpu {
        own: time(pid),
        descendants: 0,
    };
    let mut open = children.remove(&pid).unwrap_or_default();
    while let Some(id) = open.pop() {
        found.descendants += time(id);
        open.extend(children.remove(&id).unwrap_or_default());
    }
    found
}

/// Reads the memory of `pid`; zero when it is gone or not ours to read.
#[must_use]
pub fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    };
    Memory {
        rss: field("Rss:"),
        pss: field("Pss:"),
    }
}

/// Living descendants of `pid`.
#[must_use]
pub fn descendants(pid: u32) -> usize {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for id in processes() {
        if let Some((parent, _)) = stat(id) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut open = children.remove(&pid).unwrap_or_default();
    let mut count = 0;
    while let Some(id) = open.pop() {
        count += 1;
        open.extend(children.remove(&id).unwrap_or_default());
    }
    count
}

/// Open descriptors of `pid`.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Living threads of `pid`.
#[must_use]
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Parent and ticks in user and kernel mode. The name may hold anything, so fields count from its
/// last parenthesis.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((parent, user + system))
}

/// What the scheduler counted for the living threads, in microseconds: finer than ticks, but blind to
/// threads that have ended; zero where the kernel doesn't tell.
fn scheduled(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() / NANOS_IN_US
}

#[cfg(test)]
mod tests {
    use super::{memory, stat};

    #[test]
    fn this_process_has_a_parent_and_memory() {
        let pid = std::process::id();
        assert!(stat(pid).is_some_and(|(parent, _)| parent > 0));
        assert!(memory(pid).pss > 0);
        assert_eq!(memory(u32::MAX).rss, 0);
    }
}
