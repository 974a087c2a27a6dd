//! The accept loop's step, which can't fail.

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{
    Listener,
    slot::{Full, Slot},
};

/// A connection that nothing was read from yet.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub stream: TcpStream,
    /// Who is at the other end; an IPv4 address is never shown as an IPv6 one.
    pub peer: SocketAddr,
    /// Its place under the caps: keep it as long as the socket lives.
    pub slot: Slot,
}

impl Listener {
    /// The next connection that the caps have room for; waits as long as it takes.
    ///
    /// Safe to cancel: a connection is either returned or still in the kernel's queue. Out of
    /// descriptors or memory it pauses, longer each time, and goes on.
    pub async fn accept(&self) -> Accepted {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.next().await {
                Ok((stream, peer)) => {
                    pause = FIRST_PAUSE;
                    if let Some(accepted) = self.admit(stream, peer) {
                        return accepted;
                    }
                }
                Err(error) if is_peers(&error) => {
                    tracing::debug!(%error, "connection lost before it was accepted");
                }
                Err(error) => {
                    if let Some(before) = self.starved.pass(Instant::now()) {
                        tracing::warn!(%error, before, "cannot accept connections: waiting");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// A connection from any socket; who had the last one is asked last.
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if let [only] = &*self.sockets {
            return only.socket.accept().await;
        }
        if self.sockets.is_empty() {
            return pending().await;
        }
        let first = self.turn.load(Ordering::Relaxed) % self.sockets.len();
        let (before, from) = self.sockets.split_at(first);
        let mut waiting: Vec<_> = from
            .iter()
            .chain(before)
            .map(|bound| Box::pin(bound.socket.accept()))
            .collect();
        let (step, result) = poll_fn(|cx| {
            for (step, accept) in waiting.iter_mut().enumerate() {
                if let Poll::Ready(result) = accept.as_mut().poll(cx) {
                    return Poll::Ready((step, result));
                }
            }
            Poll::Pending
        })
        .await;
        self.turn.store(first + step + 1, Ordering::Relaxed);
        result
    }

    /// Gives a connection its place, or closes it.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Accepted> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match self.caps.take(peer.ip()) {
            Ok(slot) => {
                if let Err(error) = tune(&stream) {
                    // The peer may be gone already; whoever reads from it finds out.
                    tracing::debug!(%error, "socket options not set");
                }
                Some(Accepted { stream, peer, slot })
            }
            Err(full) => {
                drop(stream);
                if let Some(before) = self.crowded.pass(Instant::now()) {
                    let cap = match full {
                        Full::Total => "all connections",
                        Full::Address => "connections of one address",
                    };
                    tracing::warn!(%peer, cap, before, "connection closed: cap reached");
                }
                None
            }
        }
    }
}

/// True for what concerns one connection, not the listener (accept(2): a connection's own pending
/// network errors are reported by accept).
fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::Interrupted
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::PermissionDenied
            | K::TimedOut
    )
}

/// Small messages leave at once; a peer that vanished is noticed, idle or not.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
    Ok(())
}

/// Lets one line in [`QUIET`] through and counts the others.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    last: Mutex<Option<Instant>>,
    suppressed: AtomicU64,
}

impl Throttle {
    /// How many were suppressed since the last one, when this one may pass.
    fn pass(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if last.is_some_and(|last| now.duration_since(last) < QUIET) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

/// Descriptors come back one by one as connections end: at first it is worth asking soon.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// After recovery nobody waits longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Sent data that stays unacknowledged this long ends the connection, keep-alive probes included.
#[cfg(target_os = "linux")]
const DEAD_PEER: Duration = Duration::from_secs(30);

/// Between two log lines about the same trouble.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_descriptors_pauses_and_a_lost_connection_does_not() {
        for errno in [
            nix::libc::EMFILE,
            nix::libc::ENFILE,
            nix::libc::ENOBUFS,
            nix::libc::ENOMEM,
        ] {
            assert!(!is_peers(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        for errno in [
            nix::libc::ECONNABORTED,
            nix::libc::EINTR,
            nix::libc::EHOSTUNREACH,
        ] {
            assert!(is_peers(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_lets_one_through_and_counts_the_rest() {
        let throttle = Throttle::default();
        let now = Instant::now();
        assert_eq!(throttle.pass(now), Some(0));
        assert_eq!(throttle.pass(now), None);
        assert_eq!(throttle.pass(now + QUIET / 2), None);
        assert_eq!(throttle.pass(now + QUIET), Some(2));
        assert_eq!(throttle.pass(now + QUIET * 2), Some(0));
    }
}
