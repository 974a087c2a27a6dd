//! Settings of a backend that are good by themselves, and not together.
//!
//! Invariant: what would leave a client without an answer for good is said before it happens.

use super::{problem::Problem, table::Table};
use crate::{
    backend::Isolation,
    policy::filter::{HELLO, Rule},
};

/// No more are kept ready than may run.
pub(super) fn warm(table: &Table<'_>, warm: u32, max_instances: u32, isolation: Isolation) {
    if warm > max_instances {
        table.cx.report(
            Problem::error("`warm` is more than `max_instances`")
                .at(&table.place("warm"))
                .also(
                    &table.place("max_instances"),
                    "no more than these are started",
                )
                .help(format!("write a value from 0 to {max_instances}")),
        );
    } else if isolation == Isolation::Shared && warm > 1 {
        table.cx.report(
            Problem::warning("a shared backend has one instance; more can't be kept warm")
                .at(&table.place("warm"))
                .help("write warm = 1"),
        );
    }
}

/// Sessions and requests of the revision without them never share a child.
pub(super) fn room(table: &Table<'_>, max_instances: u32, isolation: Isolation) {
    if max_instances > 1 || isolation == Isolation::Session {
        return;
    }
    let message = "one instance serves either sessions or requests without one: while somebody uses it \
                   for the one, the other is refused";
    let help = "write max_instances = 2 or more, unless all clients are of the same era";
    let problem = Problem::warning(message).at(&table.place("max_instances"));
    table.cx.report(problem.help(help));
}

/// A session begins with `initialize`, whatever else it may do.
pub(super) fn methods(filter: &Table<'_>, methods: &Rule) {
    if methods
        .deny
        .as_ref()
        .is_some_and(|deny| deny.matches(HELLO))
    {
        let message = "`methods` denies `initialize`: nobody can open a session";
        let help =
            "deny the methods that are not to be used; the handshake gives no access to anything";
        let problem = Problem::warning(message).at(&filter.place("methods"));
        filter.cx.report(problem.help(help));
    }
}
