//! The keys of an issuer, kept fresh.
//!
//! Owns where keys come from, when they are asked for again, and what holds while they can't be
//! had. Invariants: one task fetches; what a stranger sends can make it fetch only at a bounded
//! rate; keys that were had are kept until there are new ones.

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::Uri;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Config, Source,
    discovery::{Description, DiscoveryError},
    fetch::{FetchError, Fetcher, Question},
    jwks::{JwksError, KeySet},
};
use crate::drain::Drain;

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Keys(#[from] JwksError),
}

/// The keys, and what keeps them fresh.
pub(super) struct Keyring {
    current: ArcSwapOption<KeySet>,
    /// Counts attempts that have ended.
    attempts: watch::Sender<u64>,
    busy: AtomicBool,
    wanted: Notify,
    allowance: Mutex<Allowance>,
    /// Where the issuer answers questions about tokens, once that is known.
    pub(super) introspection: ArcSwapOption<(Uri, Uri)>,
    /// How often a key was taken away.
    removals: std::sync::atomic::AtomicU64,
    started: AtomicBool,
}

/// How often a stranger may make us ask.
struct Allowance {
    left: u32,
    since: Instant,
}

impl Keyring {
    pub(super) fn new() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            attempts: watch::Sender::new(0),
            // Whoever comes before the first attempt has ended waits for it.
            busy: AtomicBool::new(true),
            wanted: Notify::new(),
            allowance: Mutex::new(Allowance {
                left: BURST,
                since: Instant::now(),
            }),
            introspection: ArcSwapOption::empty(),
            removals: std::sync::atomic::AtomicU64::new(0),
            started: AtomicBool::new(false),
        }
    }

    /// The keys of now; `None` before there were any.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// How often a key was taken away: what was verified before may not hold any more.
    pub(super) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    /// Waits until the keys were asked for once more, as far as that is allowed and comes soon.
    pub(super) async fn refresh(&self) {
        let mut attempts = self.attempts.subscribe();
        if !self.busy.load(Ordering::Acquire) {
            if !self.allowance.lock().take(Instant::now()) {
                return;
            }
            self.wanted.notify_one();
        }
        // Whatever came of it: the keys are looked at again.
        let _ = timeout(PATIENCE, attempts.changed()).await;
    }

    /// Keeps the keys fresh until the gateway closes or the keyring is dropped; once.
    pub(super) fn run(self: &Arc<Self>, drain: &Drain, config: &Config, fetcher: &Arc<Fetcher>) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let (keyring, closing) = (Arc::downgrade(self), drain.clone());
        let (config, fetcher) = (config.clone(), fetcher.clone());
        drain.spawn(async move {
            tokio::select! {
                () = keep_fresh(keyring, config, fetcher) => {}
                () = closing.closing() => {}
            }
        });
    }

    fn store(&self, keys: KeySet) {
        let before = self.current.swap(Some(Arc::new(keys)));
        let now = self.current.load();
        if let (Some(before), Some(now)) = (before, now.as_ref())
            && !now.keeps_all(&before)
        {
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.since).as_secs() / EARN.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

async fn keep_fresh(keyring: Weak<Keyring>, config: Config, fetcher: Arc<Fetcher>) {
    let (mut failures, mut said) = (0_u32, String::new());
    loop {
        let got = keys(&keyring, &config, &fetcher).await;
        let Some(keyring) = keyring.upgrade() else {
            return;
        };
        let pause = match got {
            Ok(keys) => {
                if failures > 0 {
                    tracing::info!(issuer = config.issuer, "the issuer's keys are here");
                }
                keyring.store(keys);
                failures = 0;
                said.clear();
                if matches!(config.keys, Source::File(_)) {
                    FILE
                } else {
                    REFRESH
                }
            }
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    let kept = keyring.current().is_some();
                    tracing::warn!(issuer = config.issuer, error, kept, "no keys of the issuer");
                    said = error;
                }
                failures = failures.saturating_add(1);
                (RETRY * 2_u32.saturating_pow(failures.min(6))).min(REFRESH)
            }
        };
        keyring.busy.store(false, Ordering::Release);
        keyring.attempts.send_modify(|count| *count += 1);
        // What came while it was busy has been answered.
        let asked = async {
            keyring.wanted.notified().await;
        };
        let _ = timeout(pause, asked).await;
        keyring.busy.store(true, Ordering::Release);
    }
}

async fn keys(
    keyring: &Weak<Keyring>,
    config: &Config,
    fetcher: &Fetcher,
) -> Result<KeySet, KeysError> {
    let body = match &config.keys {
        Source::File(path) => {
            let file = path.clone();
            // Its disk may be slow.
            let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
            let read = read.map_err(std::io::Error::other).flatten();
            read.map_err(|source| KeysError::Read {
                path: path.clone(),
                source,
            })?
            .into()
        }
        Source::Url(uri) => fetcher.fetch(Question::get(uri)).await?,
        Source::Discovered => {
            let description = Description::fetch(fetcher, &config.issuer).await?;
            if let (Some(keyring), Ok(endpoint)) = (
                keyring.upgrade(),
                description.address("introspection_endpoint"),
            ) {
                let known = Arc::new((endpoint, description.issuer.clone()));
                keyring.introspection.store(Some(known));
            }
            let uri = description.address("jwks_uri")?;
            let question = Question {
                learned_from: Some(&description.issuer),
                ..Question::get(&uri)
            };
            fetcher.fetch(question).await?
        }
    };
    Ok(KeySet::parse(&body)?)
}

/// Between two looks at keys that nobody asked for.
const REFRESH: Duration = Duration::from_secs(300);
/// Between two looks at a file.
const FILE: Duration = Duration::from_secs(2);
/// The first pause after a failure; then twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
/// How long a request waits for keys: a little longer than they may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// So often at once may unknown key ids make us ask,
const BURST: u32 = 5;
/// and once more after each of these.
const EARN: Duration = Duration::from_secs(10);
