//! The application of a plan to this process.
//!
//! Owns the order of the steps: each one takes away what the ones before it needed. It must run in
//! a process of one thread that is about to exec. Invariant: when [`confine`] returns, everything
//! in the plan holds, for this process and all that it will start, for good.

use nix::unistd::geteuid;

use super::{Network, Plan, Refused, identity, landlock, mounts, resources, seccomp};

pub use identity::relinquish;

/// Applies a plan. A process for which it fails must not become the command.
///
/// # Errors
///
/// The first thing that can't be enforced.
pub fn confine(plan: &Plan) -> Result<(), Refused> {
    let uid = plan.user.map_or_else(|| geteuid().as_raw(), |(uid, _)| uid);
    let root = uid == 0;
    resources::prefer_to_be_killed()?;
    if root {
        resources::bound_pids(plan)?;
    }
    if plan.namespaces {
        if plan.strict {
            identity::own_spaces(plan.network == Network::None)?;
        }
        mounts::arrange(plan, root)?;
    }
    let bound = identity::become_user(plan)?;
    identity::relinquish()?;
    resources::limit(plan, bound)?;
    // For the filters of an unprivileged process; and no set-user-id program gains by it.
    nix::sys::prctl::set_no_new_privs().map_err(Refused::at("giving up new privileges"))?;
    if plan.strict {
        landlock::apply(plan)?;
    } else if !plan.namespaces
        && (root || plan.grouped || !plan.masked.is_empty() || !plan.fixed.is_empty())
    {
        landlock::hide(plan, root)?;
    }
    seccomp::apply(plan.strict.then_some(plan.network))
}
