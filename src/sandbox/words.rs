//! What a sandbox means, in plain words.
//!
//! Owns the words that an operator reads. It must never promise what [`super::confine`] does not
//! enforce.

use std::path::PathBuf;

use super::{Config, Network, OPEN_FILES, PROCESSES, Profile, TMP_SIZE};

impl Config {
    /// What children will be able to do, a sentence each.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        match self.profile {
            Profile::Off => vec![
                "no sandbox: can do whatever the gateway's user can, and read its files and keys"
                    .to_owned(),
            ],
            Profile::Basic => self.basic(),
            Profile::Strict => self.strict(),
        }
    }

    fn basic(&self) -> Vec<String> {
        let who = self.who();
        vec![
            format!("reads and writes what {who} can, but not the gateway's own files"),
            "reaches the network, and sockets of this machine".to_owned(),
            "can't gain privileges, trace processes, mount, or make namespaces".to_owned(),
            self.limits(),
        ]
    }

    fn strict(&self) -> Vec<String> {
        let list = |paths: &[PathBuf]| {
            let paths = paths.iter().map(|path| path.display().to_string());
            paths.collect::<Vec<_>>().join(", ")
        };
        let also = if self.read.is_empty() {
            String::new()
        } else {
            format!(", and {}", list(&self.read))
        };
        let both = if self.write.is_empty() {
            String::new()
        } else {
            format!(", and {}", list(&self.write))
        };
        let mib = TMP_SIZE >> 20;
        let network = match self.network {
            Network::None => "reaches no network and no socket of this machine",
            Network::Full => "reaches the network, this machine included, but no Unix socket",
        };
        vec![
            format!(
                "reads its own program, system libraries{also}, as {}",
                self.who()
            ),
            format!("writes a private TMPDIR (in memory: {mib} MiB at most){both}"),
            network.to_owned(),
            "can't gain privileges, trace or signal others, mount, or make namespaces".to_owned(),
            self.limits(),
        ]
    }

    fn who(&self) -> String {
        match &self.user {
            Some(user) => format!("the user {}", user.name),
            None => "the gateway's user".to_owned(),
        }
    }

    fn limits(&self) -> String {
        let processes = self.processes.unwrap_or(PROCESSES);
        let files = self.open_files.unwrap_or(OPEN_FILES);
        let mut text =
            format!("at most {processes} processes and threads; each {files} open files");
        if let Some(memory) = self.memory {
            let mib = memory >> 20;
            text.push_str(&format!(", {mib} MiB of data (RLIMIT_DATA)"));
        }
        match self.cpu_time {
            Some(time) => text.push_str(&format!(", {} s of CPU", time.as_secs())),
            None => text.push_str(", no limit on CPU"),
        }
        if self.memory.is_none() {
            text.push_str(", none on memory");
        }
        text
    }
}
