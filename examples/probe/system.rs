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

/// System calls, each with arguments that the kernel takes.
pub(crate) const CALLS: &[(&str, Call)] = &[
    ("user_namespace", Call(libc::SYS_unshare, "0x10000000")),
    (
        "clone_namespace",
        Call(libc::SYS_clone, "0x10000011,0,0,0,0"),
    ),
    ("clone3_namespace", Call(libc::SYS_clone3, "$clone,88")),
    ("mount", Call(libc::SYS_mount, "$none,$mnt,$tmpfs,0,0")),
    ("chroot", Call(libc::SYS_chroot, "$mnt")),
    ("fsopen", Call(libc::SYS_fsopen, "$tmpfs,0")),
    ("open_tree", Call(libc::SYS_open_tree, "-100,$root,0")),
    (
        "mount_setattr",
        Call(libc::SYS_mount_setattr, "-100,$root,0,$zeros,32"),
    ),
    ("keyctl", Call(libc::SYS_keyctl, "0,-3,0,0,0")),
    ("add_key", Call(libc::SYS_add_key, "$user,$none,$none,4,-2")),
    ("io_uring", Call(libc::SYS_io_uring_setup, "1,$zeros")),
    ("bpf", Call(libc::SYS_bpf, "0,$map,128")),
    ("userfaultfd", Call(libc::SYS_userfaultfd, "1")),
    ("perf", Call(libc::SYS_perf_event_open, "$event,0,-1,-1,0")),
    (
        "read_memory",
        Call(libc::SYS_process_vm_readv, "$$,0,0,0,0,0"),
    ),
    // The host of a virtual machine; what a network card sees; packets by hand.
    ("vsock", Call(libc::SYS_socket, "40,1,0")),
    ("packet", Call(libc::SYS_socket, "17,3,0x300")),
    ("raw", Call(libc::SYS_socket, "2,3,1")),
];

/// System calls that fail for what they are given, once they are let in at all.
pub(crate) const LET_IN: &[(&str, Call)] = &[
    (
        "move_mount",
        Call(libc::SYS_move_mount, "-1,$none,-1,$none,0"),
    ),
    ("setns", Call(libc::SYS_setns, "-1,0")),
    ("take_descriptor", Call(libc::SYS_pidfd_getfd, "-1,0,0")),
    (
        "request_key",
        Call(libc::SYS_request_key, "$user,$none,0,0"),
    ),
    // A key press for whoever reads the terminal; the kernel looks at the lower half of the word.
    ("tiocsti", Call(libc::SYS_ioctl, "0,0x5412,$none")),
    ("tiocsti_wide", Call(libc::SYS_ioctl, "0,0x700005412,$none")),
    ("tioclinux", Call(libc::SYS_ioctl, "0,0x541c,$none")),
];

/// Perl hands on a variable's content by its address, and does not take a constant.
const VARIABLES: &str = r#"my ($none, $mnt, $tmpfs, $root, $user) = ("none", "/mnt", "tmpfs", "/", "user");
my $zeros = "\0" x 120; my $clone = pack("Q11", 0x10000000, 0, 0, 0, 17);
my $map = pack("L4 x112", 2, 4, 4, 1); my $event = pack("L2 x104", 1, 112);"#;

/// A number, and arguments as perl has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call(i64, &'static str);

pub(crate) fn call(call: &Call) -> bool {
    let Call(number, arguments) = call;
    let forks = [libc::SYS_clone, libc::SYS_clone3].contains(number);
    // The child of a clone gets 0, and says nothing.
    let script = format!(
        "{VARIABLES} my $r = syscall({number},{arguments}); exit 0 if $r == 0 && {}; \
         print $r >= 0 ? 'worked' : \"no: $!\"",
        u8::from(forks)
    );
    perl(&script)
}

/// Whether the kernel at least looked at what it was given.
pub(crate) fn is_let_in(call: &Call) -> bool {
    let Call(number, arguments) = call;
    perl(&format!(
        "use Errno qw(EPERM ENOSYS); {VARIABLES} my $r = syscall({number},{arguments}); \
         print 'worked' if $r >= 0 || ($! != EPERM && $! != ENOSYS)"
    ))
}

fn perl(script: &str) -> bool {
    let output = Command::new("perl").args(["-e", script]).output();
    output.is_ok_and(|output| output.stdout.starts_with(b"worked"))
}

/// Opens a file that it can name by something else than its name, past all that stands on the way.
pub(crate) fn opens_by_handle() -> bool {
    perl(&format!(
        "my ($name, $handle, $mount) = ('/etc/passwd', pack('Ii x128', 128, 0), pack('i', 0)); \
         exit if syscall({}, -100, $name, $handle, $mount, 0) != 0; \
         print 'worked' if syscall({}, -100, $handle, 0) >= 0",
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at
    ))
}

/// Runs a program that stands in memory only.
pub(crate) fn runs_from_memory() -> bool {
    let program = fs::read("/bin/true").unwrap_or_default();
    run_in_memory(&program) == Some(0)
}

/// Calls of x86-64's sisters, which filters for x86-64 may miss: its numbers with another bit, and
/// those of 32 bits.
pub(crate) fn x32() -> bool {
    cfg!(target_arch = "x86_64") && perl("print 'worked' if syscall(0x40000027) > 0")
}

pub(crate) fn int80() -> bool {
    // exit(42)
    let code = b"\xb8\x01\0\0\0\xbb\x2a\0\0\0\xcd\x80";
    cfg!(target_arch = "x86_64") && run_in_memory(&program(code)) == Some(42)
}

/// A file with nothing but this code.
fn program(code: &[u8]) -> Vec<u8> {
    let base: u64 = 0x40_0000;
    let length = 120 + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 0x3e, 0, 1, 0, 0, 0]);
    for word in [base + 120, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, base, base, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// The exit code of a program that stands in memory only, if it could be run.
fn run_in_memory(program: &[u8]) -> Option<i32> {
    let script = format!(
        "$^F = 255; my $name = 'x'; my $fd = syscall({}, $name, 0); exit 99 if $fd < 0; \
         open(my $to, '>&=', $fd) or exit 99; binmode STDIN; local $/; my $text = <STDIN>; \
         syswrite($to, $text) == length $text or exit 99; exec {{\"/proc/self/fd/$fd\"}} 'x'; exit 99",
        libc::SYS_memfd_create
    );
    let mut child = Command::new("perl")
        .args(["-e", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(program).ok()?;
    child.wait().ok()?.code()
}

/// Traces a process of its own, as it could another's.
pub(crate) fn ptrace() -> bool {
    let Ok(mut other) = itself("hold").stdin(Stdio::piped()).spawn() else {
        return false;
    };
    let worked = perl(&format!(
        "print syscall({},16,{},0,0)==0 ? 'worked' : 'no'",
        libc::SYS_ptrace,
        other.id()
    ));
    // One that was traced stays stopped.
    let _ = other.kill();
    let _ = other.wait();
    worked
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
