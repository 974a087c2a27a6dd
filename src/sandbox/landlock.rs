//! Files, signals and abstract sockets by Landlock.
//!
//! Owns the rulesets: of `strict`, and of `basic` where there are no mounts to hide what is the
//! gateway's own. It must never grant more than the plan names. Invariant: what the
//! profile promises is required of the kernel, except where something else keeps the promise, too;
//! what the kernel knows beyond that is asked for.

use std::{ffi::OsStr, fs, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
    make_bitflags,
};

use super::{
    Network, Plan, Refused,
    beside::{self, Kind},
};

/// Confines this process for good.
pub(super) fn apply(plan: &Plan) -> Result<(), Refused> {
    let failed = || Refused::at("Landlock can't be used as `strict` needs it");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .map_err(failed())?;
    if !plan.namespaces {
        // Otherwise a PID namespace keeps signals in. Abstract sockets are out of reach by the
        // filter of system calls already.
        ruleset = ruleset.scope(Scope::Signal).map_err(failed())?;
    }
    ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(failed())?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)
        .map_err(failed())?;
    if plan.network == Network::None {
        ruleset = ruleset
            .handle_access(AccessNet::from_all(NEWEST))
            .map_err(failed())?;
    }
    let mut rules = ruleset.create().map_err(failed())?;
    let look = AccessFs::from_read(NEWEST);
    for path in &plan.runtime {
        rules = grant(rules, path, look, Absent::Ignored)?;
    }
    let proc = if own_proc(plan) { &["/proc"] } else { PROC };
    for path in proc {
        rules = grant(rules, OsStr::new(path), look, Absent::Ignored)?;
    }
    for path in &plan.read {
        rules = grant(rules, path, look, Absent::Refused)?;
    }
    for path in plan.write.iter().chain(&plan.tmp) {
        rules = grant(rules, path, write(), Absent::Refused)?;
    }
    let (read, both) = (
        BitFlags::from(AccessFs::ReadFile),
        AccessFs::ReadFile | AccessFs::WriteFile,
    );
    for (device, access) in [
        ("/dev/null", both),
        ("/dev/zero", read),
        ("/dev/full", both),
        ("/dev/random", read),
        ("/dev/urandom", read),
    ] {
        rules = grant(rules, OsStr::new(device), access, Absent::Ignored)?;
    }
    enforce(rules)
}

/// Leaves out the gateway's own files, and what root could open without a capability.
pub(super) fn hide(plan: &Plan, root: bool) -> Result<(), Refused> {
    let failed = || Refused::at("the gateway's own files can't be hidden");
    // No scope but for signals where they can be kept: `basic` leaves abstract sockets.
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .map_err(failed())?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(failed())?
        .scope(Scope::Signal)
        .map_err(failed())?
        .create()
        .map_err(failed())?;
    for (path, kind) in beside::grants(plan, root)? {
        let access = match kind {
            Kind::Everything if root => AccessFs::from_all(NEWEST) & !DEVICES,
            Kind::Everything => AccessFs::from_all(NEWEST),
            Kind::Looking => AccessFs::from_read(NEWEST),
        };
        // What went away, or may not be opened, is not granted.
        rules = grant(rules, path.as_os_str(), access, Absent::Ignored)?;
    }
    enforce(rules)
}

fn enforce(rules: RulesetCreated) -> Result<(), Refused> {
    let status = rules
        .restrict_self()
        .map_err(Refused::at("Landlock can't be used"))?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err(Refused::new("Landlock is not enforced by this kernel"));
    }
    Ok(())
}

/// Whether `/proc` shows the child's namespace and nothing else.
fn own_proc(plan: &Plan) -> bool {
    let seen = fs::read_link("/proc/self").unwrap_or_default();
    plan.namespaces && seen == Path::new(&nix::unistd::getpid().to_string())
}

/// What may be done where the child may write: nothing is run from there, and no device is made.
fn write() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::IoctlDev
        | AccessFs::ResolveUnix;
    AccessFs::from_all(NEWEST) & !never
}

enum Absent {
    Ignored,
    Refused,
}

fn grant(
    rules: RulesetCreated,
    path: &OsStr,
    access: BitFlags<AccessFs>,
    absent: Absent,
) -> Result<RulesetCreated, Refused> {
    let unusable = |error: &dyn std::fmt::Display| {
        Refused::new(format!("{} can't be granted: {error}", path.display()))
    };
    let fd = match (PathFd::new(path), absent) {
        (Ok(fd), _) => fd,
        (Err(PathFdError::OpenCall { .. }), Absent::Ignored) => return Ok(rules),
        (Err(PathFdError::OpenCall { source, .. }), _) => return Err(unusable(&source)),
        (Err(error), _) => return Err(unusable(&error)),
    };
    let folder = fs::metadata(path).is_ok_and(|meta| meta.is_dir());
    let access = if folder {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    rules
        .add_rule(PathBeneath::new(fd, access))
        .map_err(|error| unusable(&error))
}

/// The making of devices.
const DEVICES: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeChar | MakeBlock});

/// Every way to change a file.
const NEEDED: ABI = ABI::V3;

/// Asked for where the kernel has it.
const NEWEST: ABI = ABI::V10;

/// What of `/proc` tells nothing of other processes.
const PROC: &[&str] = &[
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm/overcommit_memory",
    "/proc/uptime",
    "/proc/version",
];
