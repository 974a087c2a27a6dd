//! What the load generator, its yardsticks and the suite share.
//!
//! The client side is written to cost little, because it shares the machine with what it measures:
//! one thread, connections kept open, messages built and read as bytes.

pub mod call;
pub mod drive;
pub mod histogram;
pub mod http1;
pub mod http2;
pub mod idle;
pub mod json;
pub mod net;
pub mod opens;
pub mod proc;
pub mod report;
pub mod sse;
pub mod tally;
pub mod target;
