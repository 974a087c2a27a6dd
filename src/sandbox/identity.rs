//! Who the child is, and which namespaces are its own.
//!
//! Owns the change of user and the end of all capabilities. It must never give one back. Invariant:
//! after [`relinquish`] the process holds no capability, in no set.

use std::{fs, io};

use nix::{
    sched::{CloneFlags, unshare},
    sys::prctl,
    unistd::{self, Gid, Uid},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::{Plan, Refused, User, resources::Counted};

/// An IPC namespace, and a network namespace in which there is nothing.
pub(super) fn own_spaces(no_network: bool) -> Result<(), Refused> {
    let mut spaces = CloneFlags::CLONE_NEWIPC;
    spaces.set(CloneFlags::CLONE_NEWNET, no_network);
    unshare(spaces).map_err(Refused::at("making namespaces"))
}

/// Becomes the plan's user, if it names one; and says whose processes a limit on them counts.
pub(super) fn become_user(plan: &Plan) -> Result<Counted, Refused> {
    let Some((uid, gid)) = plan.user else {
        return Ok(counted());
    };
    // Which would change nothing, and say that all is well.
    if uid == User::ABSENT || gid == User::ABSENT {
        return Err(Refused::new("there is no such user"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    unistd::setgroups(&[]).map_err(Refused::at("leaving groups"))?;
    unistd::setresgid(gid, gid, gid).map_err(Refused::at("changing the group"))?;
    unistd::setresuid(uid, uid, uid).map_err(Refused::at("changing the user"))?;
    if uid.is_root() {
        return Ok(Counted::Nobody);
    }
    // The kernel counts processes by user and user namespace: in one of its own, an instance is
    // not charged for those of others.
    Ok(match own_user_namespace(uid, gid) {
        Ok(()) => Counted::Instance(0),
        Err(_) => Counted::User,
    })
}

/// Whose processes the kernel counts for this one as it is.
fn counted() -> Counted {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut map = map.split_ascii_whitespace();
    let (inside, outside, size) = (map.next(), map.next(), map.next());
    if unistd::getuid().is_root() && inside == Some("0") && outside == Some("0") {
        return Counted::Nobody;
    }
    // Made by the keeper, which is counted there, as is pid 1.
    if size == Some("1") {
        return Counted::Instance(2);
    }
    Counted::User
}

fn own_user_namespace(uid: Uid, gid: Gid) -> io::Result<()> {
    // The change of user has closed /proc/self to that very user; exec decides anew.
    prctl::set_dumpable(true)?;
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Gives up all capabilities.
///
/// # Errors
///
/// When the kernel keeps one.
pub fn relinquish() -> Result<(), Refused> {
    let failed = || Refused::at("dropping capabilities");
    clear_ambient_capability_set().map_err(failed())?;
    let held = capabilities(None).map_err(failed())?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all() {
            // Refused for those that this kernel does not know.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).map_err(failed())
}
