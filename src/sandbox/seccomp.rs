//! System calls that a child has no use for.
//!
//! Owns the lists. It must never be changed by what a command is. Invariants: the filters are for
//! the architecture that this was compiled for, and calls of another one end the process; calls
//! that are newer than the lists do not exist.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::{Network, Refused};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Confines this process for good; with a network, as `strict` does.
pub(super) fn apply(strict: Option<Network>) -> Result<(), Refused> {
    let absent = MISSING.iter().map(|call| (*call, Vec::new())).collect();
    let mut program = vec![];
    program.extend(newer_is_missing());
    program.extend(filter(absent, libc::ENOSYS)?);
    install(&program)?;
    install(&filter(forbidden(strict)?, libc::EPERM)?)
}

fn install(program: &BpfProgram) -> Result<(), Refused> {
    seccompiler::apply_filter(program).map_err(Refused::at("filtering system calls"))
}

fn filter(rules: Rules, errno: i32) -> Result<BpfProgram, Refused> {
    let failed = "making a filter of system calls";
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(Refused::at(failed))?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)
        .and_then(BpfProgram::try_from)
        .map_err(Refused::at(failed))
}

/// Calls beyond the newest that is known here get the answer of a kernel that does not have them.
/// Among them are those of the x32 ABI, which are the known ones under other numbers.
fn newer_is_missing() -> [sock_filter; 3] {
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let (load, jump, answer) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let code = |code: u32| u16::try_from(code).unwrap_or_default();
    [
        op(code(load), 0, 0, 0),
        op(code(jump), 0, 1, NEWEST),
        op(code(answer), 0, 0, missing),
    ]
}

fn forbidden(strict: Option<Network>) -> Result<Rules, Refused> {
    let mut rules: Rules = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    let bit = |flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        when(0, SeccompCmpOp::MaskedEq(flag), flag)
    };
    let spaces = SPACES.iter().map(|flag| rule(vec![bit(*flag)?]));
    rules.insert(libc::SYS_clone, spaces.collect::<Result<_, _>>()?);
    // Keystrokes into the terminal of somebody else.
    let ioctl = TERMINAL.map(|request| rule(vec![when(1, SeccompCmpOp::Eq, request)?]));
    rules.insert(
        libc::SYS_ioctl,
        ioctl.into_iter().collect::<Result<_, _>>()?,
    );
    match strict {
        Some(network) => {
            rules.insert(libc::SYS_socket, sockets(network)?);
            rules.insert(libc::SYS_socketpair, pairs()?);
        }
        // What runs this machine is no network.
        None => {
            let vsock = u64::from(libc::AF_VSOCK.unsigned_abs());
            let vsock = rule(vec![when(0, SeccompCmpOp::Eq, vsock)?])?;
            rules.insert(libc::SYS_socket, vec![vsock]);
        }
    }
    Ok(rules)
}

/// No socket at all, or none but those of the internet and the one that tells of interfaces. A Unix
/// socket would reach whatever listens on this machine, a container engine for one.
fn sockets(network: Network) -> Result<Vec<SeccompRule>, Refused> {
    if network == Network::None {
        return Ok(Vec::new());
    }
    let not = |family: i32| when(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()));
    let netlink = u64::from(libc::AF_NETLINK.unsigned_abs());
    Ok(vec![
        rule(vec![
            not(libc::AF_INET)?,
            not(libc::AF_INET6)?,
            not(libc::AF_NETLINK)?,
        ])?,
        rule(vec![
            when(0, SeccompCmpOp::Eq, netlink)?,
            when(
                2,
                SeccompCmpOp::Ne,
                u64::from(libc::NETLINK_ROUTE.unsigned_abs()),
            )?,
        ])?,
    ])
}

/// Pairs are connected to each other for good, but for those of datagrams, which can send to any
/// name.
fn pairs() -> Result<Vec<SeccompRule>, Refused> {
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let datagram = [libc::SOCK_DGRAM, libc::SOCK_RAW];
    let mut rules = vec![rule(vec![when(0, SeccompCmpOp::Ne, unix)?])?];
    for kind in datagram {
        let kind = u64::from(kind.unsigned_abs());
        rules.push(rule(vec![when(
            1,
            SeccompCmpOp::MaskedEq(SOCKET_TYPE),
            kind,
        )?])?);
    }
    Ok(rules)
}

fn when(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Refused> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)
        .map_err(Refused::at("making a filter of system calls"))
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Refused> {
    SeccompRule::new(conditions).map_err(Refused::at("making a filter of system calls"))
}

/// `file_setattr`, the newest call of Linux 6.18.
const NEWEST: u32 = 469;

/// The kind of a socket, without its flags.
const SOCKET_TYPE: u64 = 0xf;

/// `TIOCSTI` and `TIOCLINUX`.
const TERMINAL: [u64; 2] = [0x5412, 0x541c];

/// New namespaces.
const SPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Calls for which programs have another way when the kernel lacks them. The flags of `clone3` lie
/// in memory, where no filter sees them: the C library then takes `clone`.
const MISSING: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Calls that look into other processes, change the machine, or open wide parts of the kernel.
const FORBIDDEN: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// Not in the C library's list yet.
const OPEN_TREE_ATTR: i64 = 467;
