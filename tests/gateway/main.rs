//! The gateway as its clients see it: the real binary, over TLS, with real children behind it.
//!
//! One module per subject; [`rig`] starts a gateway for a test and talks to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test starts programs, stops at the first surprise and shows what it saw"
)]

mod audit;
mod auth;
mod batch;
mod bridged;
mod bridged_hostile;
mod check_serve;
mod commands;
#[cfg(target_os = "linux")]
mod confined;
mod drain;
mod hidden;
mod hidden_cost;
mod hostile_child;
mod hostile_client;
mod http_framing;
mod install;
mod isolation;
mod jwt;
mod jwt_https;
mod jwt_keys;
mod jwt_opaque;
mod jwt_sessions;
mod lifecycle;
mod limits;
mod memory;
mod modern;
mod modern_callers;
mod modern_child;
mod modern_circuit;
mod modern_input;
mod modern_lease;
mod modern_listen;
mod modern_listen_child;
mod modern_reload;
mod modern_same;
mod modern_slow;
mod mtls;
mod order;
mod origin;
mod outcomes;
mod own_program;
mod pin;
mod pin_modern;
mod posted;
mod principal_env;
mod process;
mod refusals;
mod reload;
mod reload_limits;
mod rig;
mod roles;
mod room;
mod rules;
mod sessions;
mod shared;
mod signin;
mod sse;
mod streamable;
