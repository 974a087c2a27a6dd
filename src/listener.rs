//! Bound sockets and the caps on how many connections they may hold.

use std::net::SocketAddr;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The addresses, in the order of the file; port 0 picks a free one.
    pub addresses: Vec<SocketAddr>,
    /// Connections open at once over all addresses.
    pub max_connections: usize,
    /// Connections open at once from one client address (IPv6: one /64).
    pub max_per_address: usize,
}
