//! Gatehouse: a gateway that turns local stdio MCP servers into safe remote ones.
//!
//! # The life of a request
//!
//! A connection is accepted by [`listener`], shakes hands in a task of its own ([`tls`]) and speaks
//! HTTP under hard limits ([`http`]). Each request is authenticated into a [`principal::Principal`]
//! by [`auth`], finds its [`session`], has its one JSON-RPC message read once into a
//! [`frame::Frame`], and must obtain a [`policy::Permit`] before [`session`] hands it to the
//! instance (a running child, [`backend`]) that serves it. What the child says comes back through
//! the pump to the session that it belongs to, is pruned by [`policy`], and leaves on the stream
//! that the client reads. Nothing is broadcast; every queue is bounded; every wait has a deadline.
//!
//! Modules are listed in the order in which a request meets them.

pub mod audit;
pub mod auth;
pub mod backend;
mod bridge;
pub mod cli;
pub mod codec;
pub mod config;
pub mod drain;
pub mod frame;
pub mod gateway;
pub mod glob;
pub mod http;
pub mod limit;
pub mod listener;
pub mod package;
pub mod pin;
pub mod policy;
pub mod principal;
pub mod sandbox;
pub mod secret;
pub mod session;
pub mod telemetry;
pub mod tls;
