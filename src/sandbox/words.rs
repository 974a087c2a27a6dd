//! What a sandbox means, in plain words.
//!
//! Owns the words that an operator reads. It must never promise what [`super::confine`] does not
//! enforce.

use std::path::PathBuf;

use super::{
    Config, Network, OPEN_FILES, PROCESSES, Profile, TMP_SIZE, Together, resources::USER_PROCESSES,
};

/// By what children are held on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// They have namespaces of their own.
    pub namespaces: bool,
    /// Their `/proc` shows their own processes only.
    pub own_proc: bool,
    /// What control groups hold.
    pub together: Together,
    /// Why there are no control groups.
    pub apart: Option<String>,
}

impl Config {
    /// What children will be able to do, a sentence each; and by what they are held, if that was
    /// found out.
    #[must_use]
    pub fn words(&self, means: Option<&Means>) -> Vec<String> {
        let mut words = match self.profile {
            Profile::Off => vec![
                "no sandbox: can do whatever the gateway's user can, and read its files and keys"
                    .to_owned(),
            ],
            Profile::Basic => self.basic(means),
            Profile::Strict => self.strict(means),
        };
        words.extend(means.map(|means| self.held(means)));
        words
    }

    /// The same in one line.
    #[must_use]
    pub fn line(&self, means: &Means) -> String {
        self.words(Some(means)).join("; ")
    }

    fn basic(&self, means: Option<&Means>) -> Vec<String> {
        let who = self.who();
        let except = if means.is_none_or(|means| means.namespaces) {
            "but not the gateway's own files"
        } else {
            "but not the gateway's own files; can't list the folders above those, nor add to them"
        };
        vec![
            format!("reads and writes what {who} can, {except}"),
            "reaches the network, and sockets of this machine".to_owned(),
            "can't gain privileges, trace processes, mount, or make namespaces".to_owned(),
            self.limits(means),
        ]
    }

    fn strict(&self, means: Option<&Means>) -> Vec<String> {
        let list = |paths: &[PathBuf]| {
            if paths.is_empty() {
                return String::new();
            }
            let paths = paths.iter().map(|path| path.display().to_string());
            format!(", and {}", paths.collect::<Vec<_>>().join(", "))
        };
        let tmp = if means.is_none_or(|means| means.namespaces) {
            format!("in memory: {} MiB at most", TMP_SIZE >> 20)
        } else {
            "on the disk, without a bound".to_owned()
        };
        let network = match self.network {
            Network::None => "reaches no network and no socket of this machine",
            Network::Full => "reaches the network, this machine included, but no Unix socket",
        };
        vec![
            format!(
                "reads its own program, system libraries{}, as {}",
                list(&self.read),
                self.who()
            ),
            format!("writes a private TMPDIR ({tmp}){}", list(&self.write)),
            network.to_owned(),
            "can't gain privileges, trace or signal others, mount, or make namespaces".to_owned(),
            self.limits(means),
        ]
    }

    fn who(&self) -> String {
        match &self.user {
            Some(user) => format!("the user {}", user.name),
            None => "the gateway's user".to_owned(),
        }
    }

    fn limits(&self, means: Option<&Means>) -> String {
        let together = means.map(|means| means.together);
        let processes = self.processes.unwrap_or(PROCESSES);
        let files = self.open_files.unwrap_or(OPEN_FILES);
        // Without namespaces nothing counts those of one instance.
        let apart = means.is_some_and(|means| !means.namespaces && !means.together.processes);
        let mut text = if apart && self.processes.is_none() {
            format!("at most {USER_PROCESSES} processes and threads of its user, all together")
        } else {
            format!("at most {processes} processes and threads")
        };
        text.push_str(&format!("; each {files} open files"));
        match (self.memory.map(|bytes| bytes >> 20), together) {
            (None, _) => text.push_str("; no limit on memory"),
            (Some(mib), None) => text.push_str(&format!("; {mib} MiB of memory")),
            (Some(mib), Some(Together { memory: true, .. })) => {
                text.push_str(&format!("; {mib} MiB of memory for all together"));
            }
            (Some(mib), Some(_)) => {
                text.push_str(&format!(
                    "; {mib} MiB of private data FOR EACH PROCESS (RLIMIT_DATA: shared memory is not counted)"
                ));
            }
        }
        match (self.cpu_time.map(|time| time.as_secs()), together) {
            (None, _) => text.push_str("; no limit on CPU"),
            (Some(time), None) => text.push_str(&format!("; {time} s of CPU")),
            (Some(time), Some(Together { cpu_time: true, .. })) => {
                text.push_str(&format!("; {time} s of CPU for all together"));
            }
            (Some(time), Some(_)) => {
                text.push_str(&format!("; {time} s of CPU FOR EACH PROCESS (RLIMIT_CPU)"));
            }
        }
        text
    }

    /// The mechanisms, and what is missing.
    fn held(&self, means: &Means) -> String {
        let tree = if means.namespaces {
            "namespaces"
        } else {
            "a reaper (no namespaces here)"
        };
        let mut held = vec![tree];
        match self.profile {
            Profile::Off => {}
            Profile::Basic if means.namespaces => held.push("mounts, seccomp"),
            Profile::Basic | Profile::Strict => held.push("Landlock, seccomp"),
        }
        if self.shared(means.together, false).is_some() {
            held.push("a control group");
        }
        let mut text = format!("held by {}", held.join(", "));
        if let Some(reason) = &means.apart
            && (self.memory.is_some() || self.cpu_time.is_some())
        {
            text.push_str(&format!("; {reason}"));
        }
        if !means.own_proc {
            text.push_str("; sees the list of all processes of this machine");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn means(namespaces: bool, all: bool) -> Means {
        Means {
            namespaces,
            own_proc: namespaces,
            together: Together {
                memory: all,
                processes: all,
                cpu_time: all,
            },
            apart: (!all).then(|| "there is no cgroup v2 here".to_owned()),
        }
    }

    fn strict() -> Config {
        Config {
            profile: Profile::Strict,
            read: vec!["/srv/data".into(), "/opt".into()],
            write: vec!["/srv/out".into()],
            network: Network::None,
            memory: Some(512 << 20),
            processes: Some(64),
            cpu_time: Some(Duration::from_secs(60)),
            ..Config::default()
        }
    }

    #[test]
    fn strict_with_everything() {
        let words = strict().words(Some(&means(true, true)));
        let expected = [
            "reads its own program, system libraries, and /srv/data, /opt, as the gateway's user",
            "writes a private TMPDIR (in memory: 256 MiB at most), and /srv/out",
            "reaches no network and no socket of this machine",
            "can't gain privileges, trace or signal others, mount, or make namespaces",
            "at most 64 processes and threads; each 4096 open files; 512 MiB of memory for all \
             together; 60 s of CPU for all together",
            "held by namespaces, Landlock, seccomp, a control group",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn what_holds_for_each_process_only_is_said() {
        let words = strict().words(Some(&means(false, false)));
        assert_eq!(
            words[1],
            "writes a private TMPDIR (on the disk, without a bound), and /srv/out"
        );
        assert_eq!(
            words[4],
            "at most 64 processes and threads; each 4096 open files; 512 MiB of private data FOR \
             EACH PROCESS (RLIMIT_DATA: shared memory is not counted); 60 s of CPU FOR EACH PROCESS \
             (RLIMIT_CPU)"
        );
        let unsaid = Config {
            processes: None,
            ..strict()
        };
        let counted = "at most 4096 processes and threads of its user, all together; ";
        assert!(unsaid.words(Some(&means(false, false)))[4].starts_with(counted));
        let counted = "at most 1024 processes and threads; ";
        assert!(unsaid.words(Some(&means(true, false)))[4].starts_with(counted));
        assert_eq!(
            words[5],
            "held by a reaper (no namespaces here), Landlock, seccomp; there is no cgroup v2 here; \
             sees the list of all processes of this machine"
        );
    }

    #[test]
    fn basic_says_how_the_own_files_are_hidden() {
        let config = Config::default();
        let words = config.words(Some(&means(true, false)));
        let expected = [
            "reads and writes what the gateway's user can, but not the gateway's own files",
            "reaches the network, and sockets of this machine",
            "can't gain privileges, trace processes, mount, or make namespaces",
            "at most 1024 processes and threads; each 4096 open files; no limit on memory; no limit \
             on CPU",
            "held by namespaces, mounts, seccomp",
        ];
        assert_eq!(words, expected);
        let words = config.words(Some(&means(false, false)));
        assert!(words[0].ends_with("can't list the folders above those, nor add to them"));
        assert!(words[4].starts_with("held by a reaper (no namespaces here), Landlock, seccomp"));
    }

    #[test]
    fn without_a_sandbox_that_is_what_it_says() {
        let words = Config::off().words(Some(&means(true, true)));
        let expected = [
            "no sandbox: can do whatever the gateway's user can, and read its files and keys",
            "held by namespaces",
        ];
        assert_eq!(words, expected);
    }
}
