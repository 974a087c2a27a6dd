//! `[limits]`: sizes, counts and times.
//!
//! Owns their defaults and how far each may go.

use std::{num::NonZeroU32, time::Duration};

use super::{SessionConfig, context::Context, quotas, table::Table};
use crate::limit::{self, Rate};

/// What `[limits]` says.
pub(super) struct Limits {
    pub(super) max_body: usize,
    pub(super) header_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) sessions: SessionConfig,
    pub(super) rates: limit::Config,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 4 * MIB,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
            sessions: SessionConfig::default(),
            rates: limit::Config {
                failed_auth: FAILED_AUTH,
                rate: None,
            },
        }
    }
}

/// Reads the table; what is wrong with it is reported.
pub(super) fn read(root: &mut Table<'_>) -> Limits {
    let base = Limits::default();
    let Some(mut table) = root.table("limits") else {
        return base;
    };
    let sessions = sessions(&mut table);
    let rates = limit::Config {
        failed_auth: quotas::rate(&mut table, "failed_auth").unwrap_or(base.rates.failed_auth),
        rate: quotas::rate(&mut table, "rate"),
    };
    let limits = Limits {
        max_body: table.size("max_body", base.max_body, KIB..=GIB),
        header_timeout: table.duration("header_timeout", base.header_timeout, TENTH..=HOUR),
        request_timeout: table.duration("request_timeout", base.request_timeout, TENTH..=DAY),
        sessions,
        rates,
    };
    table.finish();
    limits
}

fn sessions(table: &mut Table<'_>) -> SessionConfig {
    let base = SessionConfig::default();
    let mut sessions = SessionConfig {
        max_sessions: count(table, "max_sessions", base.max_sessions),
        max_sessions_per_principal: base.max_sessions_per_principal,
        idle_timeout: table.duration("session_idle_timeout", base.idle_timeout, TENTH..=MONTH),
        resume_grace: table.duration("resume_grace", base.resume_grace, Duration::ZERO..=HOUR),
        replay_buffer: table.size("replay_buffer", base.replay_buffer, 0..=GIB),
        max_message: table.size("max_message", base.max_message, KIB..=2 * GIB),
    };
    let per_principal = base.max_sessions_per_principal.min(sessions.max_sessions);
    sessions.max_sessions_per_principal = count(table, "max_sessions_per_principal", per_principal);
    compare(table.cx, table, &sessions);
    sessions
}

fn count(table: &mut Table<'_>, key: &'static str, default: usize) -> usize {
    let default = u32::try_from(default).unwrap_or(u32::MAX);
    table.count(key, default, 1..=MAX_SESSIONS) as usize
}

fn compare(cx: &Context<'_>, table: &Table<'_>, sessions: &SessionConfig) {
    if sessions.max_sessions_per_principal > sessions.max_sessions {
        cx.report(
            super::problem::Problem::warning(
                "`limits.max_sessions_per_principal` is beyond `limits.max_sessions`",
            )
            .at(&table.place("max_sessions_per_principal"))
            .also(
                &table.place("max_sessions"),
                "one principal can take all of these",
            )
            .help("lower it, so that one principal can't keep the others out"),
        );
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const TENTH: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// Beyond this the memory bound that follows from the file would mean nothing.
const MAX_SESSIONS: u32 = 1_000_000;
/// Guesses that an address has unless the file says otherwise.
const FAILED_AUTH: Rate = Rate {
    count: NonZeroU32::new(10).unwrap(),
    per: Duration::from_secs(60),
};
