//! Runs a command on a machine that lacks something: `without landlock,mount -- COMMAND…`.
//!
//! `landlock`, `namespaces`, `mount`: the system calls are answered as a kernel, a container engine or
//! a policy without them does. It holds for all that the command starts.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "it is a program of its own, and has nobody to tell"
)]

use std::{collections::BTreeMap, os::unix::process::CommandExt, process::Command};

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn main() {
    let mut args = std::env::args().skip(1);
    let missing = args.next().expect("what is missing");
    let rest: Vec<String> = args.skip_while(|word| word == "--").collect();
    for word in missing.split(',') {
        match word {
            "landlock" => install(all(&[libc::SYS_landlock_create_ruleset]), libc::ENOSYS),
            "mount" => install(
                all(&[
                    libc::SYS_mount,
                    libc::SYS_mount_setattr,
                    libc::SYS_move_mount,
                    libc::SYS_fsopen,
                ]),
                libc::EPERM,
            ),
            "namespaces" => {
                install(all(&[libc::SYS_clone3]), libc::ENOSYS);
                install(namespaces(), libc::EPERM);
            }
            other => panic!("nothing is called {other}"),
        }
    }
    let error = Command::new(&rest[0]).args(&rest[1..]).exec();
    panic!("{}: {error}", rest[0]);
}

fn all(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn namespaces() -> Rules {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
    ];
    let rules = || {
        let of = |flag: i32| {
            let flag = u64::from(flag.unsigned_abs());
            let bit = SeccompCmpOp::MaskedEq(flag);
            let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, bit, flag);
            SeccompRule::new(vec![condition.expect("a condition")]).expect("a rule")
        };
        flags.map(of).to_vec()
    };
    [libc::SYS_unshare, libc::SYS_clone]
        .map(|call| (call, rules()))
        .into()
}

fn install(rules: Rules, errno: i32) {
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("the kernel takes it");
}
