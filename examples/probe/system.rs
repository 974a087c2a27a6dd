//! Escapes by way of the system itself.
//!
//! Calls that have no safe form here are made by perl, which every Debian and every git has.

use std::{
    fs,
    io::Write,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    libc,
    sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage},
        signal,
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::Pid,
};

/// System calls with arguments that the kernel takes.
pub(crate) const CALLS: &[(&str, Call)] = &[
    ("user_namespace", Call(libc::SYS_unshare, "0x10000000")),
    (
        "clone_namespace",
        Call(libc::SYS_clone, "0x10000011,0,0,0,0"),
    ),
    ("mount", Call(libc::SYS_mount, "$none,$mnt,$tmpfs,0,0")),
    ("chroot", Call(libc::SYS_chroot, "$mnt")),
    ("keyctl", Call(libc::SYS_keyctl, "0,-3,0,0,0")),
    ("io_uring", Call(libc::SYS_io_uring_setup, "1,$zeros")),
    ("bpf", Call(libc::SYS_bpf, "0,$map,128")),
    ("userfaultfd", Call(libc::SYS_userfaultfd, "1")),
    ("perf", Call(libc::SYS_perf_event_open, "$event,0,-1,-1,0")),
];

/// Perl hands on a variable's content by its address, and does not take a constant.
const VARIABLES: &str = r#"my ($none, $mnt, $tmpfs, $zeros) = ("none", "/mnt", "tmpfs", "\0" x 120);
my $map = pack("L4 x112", 2, 4, 4, 1); my $event = pack("L2 x104", 1, 112);"#;

/// A number, and arguments as perl has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call(i64, &'static str);

pub(crate) fn call(call: &Call) -> bool {
    let Call(number, arguments) = call;
    let clone = libc::SYS_clone;
    // The child of a clone gets 0, and says nothing.
    let script = format!(
        "{VARIABLES} my $r = syscall({number},{arguments}); exit 0 if $r == 0 && {number} == {clone}; \
         print $r >= 0 ? 'worked' : \"no: $!\"",
    );
    let output = Command::new("perl").args(["-e", &script]).output();
    output.is_ok_and(|output| output.stdout.starts_with(b"worked"))
}

/// Traces a process of its own, as it could another's.
pub(crate) fn ptrace() -> bool {
    let Ok(mut other) = itself("hold").stdin(Stdio::piped()).spawn() else {
        return false;
    };
    let script = format!(
        "print syscall({},16,{},0,0)==0 ? 'worked' : 'no'",
        libc::SYS_ptrace,
        other.id()
    );
    let output = Command::new("perl").args(["-e", &script]).output();
    // One that was traced stays stopped.
    let _ = other.kill();
    let _ = other.wait();
    output.is_ok_and(|output| output.stdout == b"worked")
}

pub(crate) fn kill(pid: i64) -> bool {
    i32::try_from(pid).is_ok_and(|pid| signal::kill(Pid::from_raw(pid), None).is_ok())
}

/// A program with the set-user-id bit makes somebody else of it; only seen by the flag that
/// forbids it.
pub(crate) fn gains_by_set_user() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    !status.contains("NoNewPrivs:\t1")
}

pub(crate) fn core_dumps() -> bool {
    getrlimit(Resource::RLIMIT_CORE).is_ok_and(|(_, hard)| hard != 0)
}

pub(crate) fn inherited_descriptors() -> bool {
    // The one that lists them is the fourth.
    fs::read_dir("/proc/self/fd").is_ok_and(|entries| entries.count() != 4)
}

pub(crate) fn raw_disk() -> bool {
    let disks = fs::read_to_string("/proc/partitions").unwrap_or_default();
    disks
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .any(|name| fs::File::open(Path::new("/dev").join(name)).is_ok())
}

pub(crate) fn abstract_socket(name: &str) -> bool {
    SocketAddr::from_abstract_name(name)
        .and_then(|address| UnixStream::connect_addr(&address))
        .is_ok()
}

pub(crate) fn netlink() -> bool {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Netlink, SockType::Raw, flags, None).is_ok()
}

/// More than the limit, if there is one.
pub(crate) fn takes_memory(bytes: u64) -> bool {
    let mut memory: Vec<u8> = Vec::new();
    let Ok(bytes) = usize::try_from(bytes) else {
        return false;
    };
    if memory.try_reserve_exact(bytes).is_err() {
        return false;
    }
    memory.resize(bytes, 1);
    memory.last() == Some(&1)
}

/// More than a private TMPDIR holds.
pub(crate) fn fills_disk(bytes: u64) -> bool {
    let path = std::env::temp_dir().join(format!("probe-disk-{}", std::process::id()));
    let full = fs::File::create(&path).is_ok_and(|file| {
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        nix::fcntl::posix_fallocate(&file, 0, length).is_ok()
    });
    let _ = fs::remove_file(path);
    full
}

/// Three seconds of it, in another process.
pub(crate) fn burns_cpu() -> bool {
    itself("spin").status().is_ok_and(|status| status.success())
}

pub(crate) fn spin() {
    // Of its own time, however busy the machine is.
    while getrusage(UsageWho::RUSAGE_SELF).is_ok_and(|used| used.user_time().tv_sec() < 3) {
        (0..1_000_000).for_each(|_| std::hint::spin_loop());
    }
}

/// A process in a session of its own whose parent is gone.
pub(crate) fn survivor(mark: &str) -> bool {
    let script = format!("setsid sh -c 'sleep {mark} & exit' & exit");
    let started = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let _ = std::io::stdout().flush();
    started.is_ok_and(|status| status.success())
}

fn itself(word: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(word);
    command
}
