//! The table of live connections, and a connection's place in it.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 host can move in freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            // ::1 is a network of its own beside 127.0.0.1: two entries for this machine.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// How many connections there are and may be.
#[derive(Debug, Default)]
pub(super) struct Caps {
    table: Mutex<Table>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    total: usize,
    max_total: usize,
    max_per_address: usize,
    /// One entry for each address with a live connection, so never more than `max_total`.
    origins: HashMap<Origin, usize>,
}

/// Which cap a connection ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The cap over all addresses.
    Total,
    /// The cap of its address.
    Address,
}

impl Caps {
    /// New caps; connections beyond them live on, but no new ones come in.
    pub(super) fn set(&self, total: usize, per_address: usize) {
        let mut table = self.table.lock();
        table.max_total = total;
        table.max_per_address = per_address;
    }

    pub(super) fn live(&self) -> usize {
        self.table.lock().total
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A place for one more connection from an address.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Full> {
        let origin = Origin::from(address);
        self.table.lock().take(origin).inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(Slot {
            caps: Arc::clone(self),
            origin,
        })
    }

    #[cfg(test)]
    pub(super) fn origins(&self) -> usize {
        self.table.lock().origins.len()
    }
}

impl Table {
    fn take(&mut self, origin: Origin) -> Result<(), Full> {
        if self.total >= self.max_total {
            return Err(Full::Total);
        }
        let live = self.origins.get(&origin).copied().unwrap_or(0);
        if live >= self.max_per_address {
            return Err(Full::Address);
        }
        self.origins.insert(origin, live + 1);
        self.total += 1;
        Ok(())
    }

    fn give_back(&mut self, origin: Origin) {
        self.total = self.total.saturating_sub(1);
        if let Entry::Occupied(mut live) = self.origins.entry(origin) {
            *live.get_mut() -= 1;
            if *live.get() == 0 {
                live.remove();
            }
        }
    }
}

/// A connection's place; dropping it makes room for another.
#[derive(Debug)]
pub struct Slot {
    caps: Arc<Caps>,
    origin: Origin,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.caps.table.lock().give_back(self.origin);
    }
}
