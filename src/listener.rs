//! Bound sockets and the caps on how many connections they may hold.
//!
//! Owns the sockets, the accept loop's patience and the table of live connections. It must never
//! read a byte from a connection nor know what is spoken on it. Invariants: [`Listener::accept`]
//! can't fail; every connection that it hands out holds a [`Slot`], and the table holds an entry
//! for an address only while a slot of that address lives.

mod accept;
mod slot;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpListener;

pub use accept::Accepted;
pub use slot::Slot;

use accept::Throttle;
use slot::Caps;

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

/// Connections open at once, unless the process may hold fewer descriptors.
///
/// Twice the default of sessions with room for their POSTs, and a bound on what callers without
/// credentials can make the gateway hold.
pub const DEFAULT_MAX_CONNECTIONS: usize = 32_768;

/// Connections open at once from one address: half of all, so that no single address can keep the
/// others out, and yet an office behind one address, a proxy or a load test on this machine fits.
pub const DEFAULT_MAX_PER_ADDRESS: usize = DEFAULT_MAX_CONNECTIONS / 2;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("cannot listen on {address}: another program already listens there")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The port needs a privilege.
    #[error(
        "cannot listen on {address}: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
    )]
    Denied {
        /// The address.
        address: SocketAddr,
    },
    /// The address is none of this machine's.
    #[error("cannot listen on {address}: this machine has no such address")]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else the system says.
    #[error("cannot listen on {address}: {source}")]
    System {
        /// The address.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { address },
            _ => Self::System { address, source },
        }
    }
}

/// The sockets of the public listener.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<Bound>,
    caps: Arc<Caps>,
    /// The socket that is asked first next time.
    turn: AtomicUsize,
    starved: Throttle,
    crowded: Throttle,
}

#[derive(Debug, Clone)]
struct Bound {
    /// As configured: port 0 stays 0, so that a reload finds the socket again.
    configured: SocketAddr,
    socket: Arc<TcpListener>,
}

impl Listener {
    /// Binds every address; needs a tokio runtime.
    ///
    /// `max_connections` is lowered to what the process may hold in descriptors
    /// ([`raise_descriptor_limit`] first), and says so.
    ///
    /// # Errors
    /// The first address that can't be bound; then none stays bound.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let caps = Arc::new(Caps::default());
        Self::assemble(config, &[], caps)
    }

    /// A listener for a changed configuration: addresses that stay keep their socket, and live
    /// connections go on being counted. Drop the old one, or its accept loop takes connections too.
    ///
    /// # Errors
    /// As [`Listener::bind`]; then the old listener is as it was.
    pub fn rebind(&self, config: &Config) -> Result<Self, BindError> {
        Self::assemble(config, &self.sockets, Arc::clone(&self.caps))
    }

    fn assemble(config: &Config, before: &[Bound], caps: Arc<Caps>) -> Result<Self, BindError> {
        let mut old = before.to_vec();
        let mut sockets = Vec::with_capacity(config.addresses.len());
        for &configured in &config.addresses {
            let kept = old.iter().position(|bound| bound.configured == configured);
            sockets.push(match kept {
                Some(index) => old.swap_remove(index),
                None => Bound {
                    configured,
                    socket: open_beside(configured, &config.addresses, before)
                        .map(Arc::new)
                        .map_err(|source| BindError::new(configured, source))?,
                },
            });
        }
        let (total, per_address) = affordable(config, descriptor_limit());
        if total < config.max_connections {
            tracing::info!(
                configured = config.max_connections,
                total,
                "the descriptor limit allows fewer connections than configured"
            );
        }
        caps.set(total, per_address);
        Ok(Self {
            sockets,
            caps,
            turn: AtomicUsize::new(0),
            starved: Throttle::default(),
            crowded: Throttle::default(),
        })
    }

    /// Where it listens, with the ports that were picked, in the order of the configuration.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .map(|bound| bound.socket.local_addr().unwrap_or(bound.configured))
            .collect()
    }

    /// Connections that hold a slot now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.caps.live()
    }

    /// Connections that were closed at once because a cap was reached, since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.caps.refused()
    }
}

/// Lets the process hold as many descriptors as it may; the new limit.
///
/// # Errors
/// What the system says; the limit is then as it was.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // macOS reports an infinite hard limit and refuses to set more than this one.
    let wanted = if cfg!(target_os = "macos") {
        hard.min(10_240).max(soft)
    } else {
        hard
    };
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

#[cfg(unix)]
fn descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// The caps that the descriptors allow: three quarters of them, the rest is for children.
///
/// When the total has to shrink, an address keeps at most half of it, as in the defaults.
fn affordable(config: &Config, descriptors: u64) -> (usize, usize) {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let room = (descriptors / 4).saturating_mul(3).max(1);
    if config.max_connections <= room {
        return (config.max_connections, config.max_per_address);
    }
    (room, config.max_per_address.min((room / 2).max(1)))
}

/// Whether an address of `all` could be listened on now. Nobody can connect meanwhile.
///
/// # Errors
/// What keeps it from being bound.
pub fn examine(address: SocketAddr, all: &[SocketAddr]) -> Result<(), BindError> {
    let bound = bound(address, all, false).map_err(|source| BindError::new(address, source));
    bound.map(drop)
}

/// Opens an address beside sockets of ours that are about to close. Where they are in its way (one
/// is an address of this machine and the other all of them), they share the port with it, for as
/// long as it takes to bind it: nobody else can come in between, and when it fails all is as it was.
fn open_beside(address: SocketAddr, all: &[SocketAddr], ours: &[Bound]) -> io::Result<TcpListener> {
    let ours = ours.iter().filter(|bound| {
        let local = bound.socket.local_addr();
        local.is_ok_and(|local| local.port() == address.port())
    });
    let ours: Vec<_> = ours.map(|bound| SockRef::from(&*bound.socket)).collect();
    match open(address, all, false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !ours.is_empty() => {}
        opened => return opened,
    }
    let shared = ours
        .iter()
        .try_for_each(|socket| socket.set_reuse_port(true));
    let opened = shared.and_then(|()| open(address, all, true));
    for socket in ours {
        socket.set_reuse_port(false)?;
    }
    let opened = opened?;
    SockRef::from(&opened).set_reuse_port(false)?;
    Ok(opened)
}

fn open(address: SocketAddr, all: &[SocketAddr], shared: bool) -> io::Result<TcpListener> {
    let socket = bound(address, all, shared)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bound(address: SocketAddr, all: &[SocketAddr], shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6(address, all))?;
    }
    // A restart must not wait for connections of the old process in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// `[::]` alone also serves IPv4, as people expect; beside an IPv4 address of the same port, or on
/// any other IPv6 address, it doesn't.
fn only_v6(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let beside = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    !address.ip().is_unspecified() || all.iter().any(beside)
}

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests;
