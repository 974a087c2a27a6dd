//! Composition root: bind, accept, reload, drain.
//!
//! Owns the life of the whole. Invariants: a bad reload changes nothing; when [`Gateway::run`]
//! returns, no child is left.

mod reload;
mod shutdown;
mod trust;

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tracing::Instrument;

use crate::{
    audit::{self, Log},
    auth::Authenticator,
    backend::{Backend, child::Spawner},
    config::{BackendEntry, Config},
    drain::Drain,
    http::{self, Served, Server, Snapshot, metadata::Metadata, origin::Origins},
    limit::{BackendLimits, Logins, Rates},
    listener::{self, Accepted, Listener},
    package,
    policy::Accesses,
    session::{self, table::Table},
    tls::{self, Acceptor},
};

/// What the outside tells a running gateway.
#[derive(Debug)]
pub enum Signal {
    /// Finish what runs and stop; the second one: at once.
    Stop,
    /// Use this configuration from now on.
    Reload(Box<Config>),
    /// There was a new configuration, and it doesn't hold.
    Refused,
}

/// A gateway that is bound and has not accepted anything yet.
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What the tasks of a gateway share.
struct Shared {
    config: Mutex<Config>,
    server: Arc<Server>,
    acceptor: ArcSwap<Acceptor>,
    listener: ArcSwap<Listener>,
    /// The listener was replaced.
    relisten: Notify,
    spawner: Arc<Spawner>,
    log: audit::Current,
    /// Those that it followed and that are owed outcomes.
    former: Mutex<Vec<audit::Former>>,
    /// Counts changes of what client certificates are checked by.
    trust: watch::Sender<u64>,
    /// Backends that were replaced and whose sessions still run.
    retired: Mutex<Vec<Arc<Backend>>>,
    drain: Drain,
}

impl Gateway {
    /// Loads certificates, binds the addresses, makes ready to spawn.
    ///
    /// # Errors
    /// What can't be loaded or bound; nothing stays bound then.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let drain = Drain::new();
        if let Err(error) = listener::raise_descriptor_limit() {
            tracing::warn!(%error, "the descriptor limit stays as it is");
        }
        let log = match &config.audit {
            Some(audit) => Log::open(audit).context("audit")?,
            None => Log::off(),
        };
        let log: audit::Current = Arc::new(ArcSwap::from_pointee(log));
        let acceptor = Acceptor::load(&config.tls).context("TLS")?;
        let listener = Listener::bind(&config.listener).context("can't listen")?;
        let spawner = Spawner::new(drain.clone())
            .await
            .context("can't contain children")?;
        spawner.tidy();
        hide(&spawner, &config);
        package::make_folder(&config.packages);
        spawner.fix(config.packages.clone());
        tell_sandboxes(&config, &spawner);
        let spawner = Arc::new(spawner);
        let addresses = listener.local_addrs();
        let backends = config
            .backends
            .iter()
            .map(|entry| {
                (
                    entry.config.name.clone(),
                    serve_backend(entry, &spawner, &log),
                )
            })
            .collect();
        let snapshot = snapshot(&config, &addresses, backends, (&log, None));
        snapshot.auth.run(&drain);
        let sessions = Table::new(session_config(&config), log.clone());
        let server = Server::new(snapshot, sessions, drain.clone());
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            server,
            acceptor: ArcSwap::from_pointee(acceptor),
            listener: ArcSwap::from_pointee(listener),
            relisten: Notify::new(),
            spawner,
            log,
            former: Mutex::default(),
            trust: watch::Sender::new(0),
            retired: Mutex::default(),
            drain,
        });
        Ok(Self { shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.shared.listener.load().local_addrs()
    }

    /// The certificate that clients have to trust, and its SHA-256.
    #[must_use]
    pub fn certificate(&self) -> Option<(std::path::PathBuf, String)> {
        let acceptor = self.shared.acceptor.load();
        Some((acceptor.certificate_path()?, acceptor.fingerprint_sha256()?))
    }

    /// Serves until it is told to stop and everything has ended.
    pub async fn run(self, mut signals: mpsc::Receiver<Signal>) {
        let shared = self.shared;
        for served in shared.server.snapshot().backends.values() {
            served.backend.warm_up();
        }
        shared
            .drain
            .spawn(shared.server.sessions().clone().sweep(shared.drain.clone()));
        shared.drain.spawn(shared.server.clone().tell_left_out());
        shared
            .drain
            .spawn(shared.server.clone().watch_credentials());
        shared
            .drain
            .spawn(reload::watch_certificates(shared.clone()));
        shared.clone().accept();
        tracing::info!(addresses = ?shared.listener.load().local_addrs(), "ready");
        loop {
            match signals.recv().await {
                Some(Signal::Reload(config)) => reload::take_over(&shared, *config),
                Some(Signal::Refused) => reload::record(&shared, false),
                Some(Signal::Stop) | None => break,
            }
        }
        shutdown::run(&shared, &mut signals).await;
    }
}

impl Shared {
    /// Accepts on the current listener until the gateway closes or the listener is replaced.
    fn accept(self: Arc<Self>) {
        let listener = self.listener.load_full();
        let shared = self.clone();
        self.drain.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = shared.drain.closing() => return,
                    () = reload::replaced(&shared, &listener) => return,
                };
                shared.connect(accepted);
            }
        });
    }

    fn connect(self: &Arc<Self>, accepted: Accepted) {
        let shared = self.clone();
        let span = tracing::info_span!("connection", client = %accepted.peer);
        let task = async move {
            let Accepted { stream, peer, slot } = accepted;
            let Ok(local) = stream.local_addr() else {
                return;
            };
            // An IPv6 socket names IPv4 addresses in a way that nobody writes.
            let local = SocketAddr::new(local.ip().to_canonical(), local.port());
            let deadline = Instant::now() + HANDSHAKE;
            let acceptor = shared.acceptor.load_full();
            match acceptor.handshake(stream, deadline).await {
                Ok(stream) => trust::serve(&shared, stream, (peer, local)).await,
                Err(error) => {
                    tracing::debug!(%error, "handshake failed");
                    if error.is_of_certificate() {
                        trust::refused(&shared, peer.ip());
                    }
                }
            }
            drop(slot);
        };
        self.drain.spawn(task.instrument(span));
    }
}

fn serve_backend(entry: &BackendEntry, spawner: &Arc<Spawner>, log: &audit::Current) -> Served {
    let backend = Backend::new(entry.config.clone(), spawner.clone(), log.clone());
    Served {
        backend,
        filter: entry.filter.clone(),
        accesses: Accesses::default(),
        limits: Arc::new(BackendLimits::new(&entry.limits)),
        circles: Arc::default(),
    }
}

/// Keeps the gateway's own files from children; of the log's, those that a rotation makes as well.
fn hide(spawner: &Spawner, config: &Config) {
    let audit = config.audit.clone();
    spawner.hide_growing(config.own_files.clone(), move || {
        audit.iter().flat_map(audit::Config::own_files).collect()
    });
}

/// What each backend's children will be able to do.
fn tell_sandboxes(config: &Config, spawner: &Spawner) {
    let means = spawner.means();
    for entry in &config.backends {
        let child = &entry.config.child.sandbox;
        let sandbox = crate::config::show_profile(child.profile);
        tracing::info!(
            backend = entry.config.name,
            sandbox,
            "children: {}",
            child.line(&means)
        );
    }
}

fn snapshot(
    config: &Config,
    addresses: &[SocketAddr],
    backends: HashMap<String, Served>,
    (log, before): (&audit::Current, Option<&Authenticator>),
) -> Snapshot {
    let base = base_url(config, addresses);
    let roles = config.policy.roles.keys().cloned().collect();
    let auth = Authenticator::new(&config.auth, &base, &roles, before);
    let names = config.backends.iter().map(|entry| &*entry.config.name);
    let metadata = Metadata::new(&base, auth.issuers(), &config.policy, names);
    Snapshot {
        auth,
        policy: config.policy.clone(),
        backends,
        http: http_config(config, addresses),
        metadata,
        log: Log::clone(&log.load()),
        logins: Arc::new(Logins::new(config.limits.failed_auth)),
        rates: config.limits.rate.map(|rate| Arc::new(Rates::new(rate))),
    }
}

/// The URL under which clients know the gateway, without a slash at its end; by default that of the
/// first address, as far as it is one that can be written in a URL.
fn base_url(config: &Config, addresses: &[SocketAddr]) -> String {
    if let Some(url) = &config.http.public_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let scheme = match config.tls.source {
        tls::Source::None => "http",
        tls::Source::Files { .. } | tls::Source::SelfSigned { .. } => "https",
    };
    match addresses.first() {
        Some(address) if !address.ip().is_unspecified() => format!("{scheme}://{address}"),
        Some(address) => format!("{scheme}://localhost:{}", address.port()),
        None => format!("{scheme}://localhost"),
    }
}

fn http_config(config: &Config, addresses: &[SocketAddr]) -> http::Config {
    let http = &config.http;
    let url = http.public_url.as_ref();
    let origin = url.and_then(|url| Some(format!("{}://{}", url.scheme_str()?, url.authority()?)));
    let mut hosts = http.allowed_hosts.clone();
    if http.own_addresses {
        hosts.extend(addresses.iter().map(ToString::to_string));
    }
    let mut origins = Origins::new(&hosts, &http.allowed_origins, origin.as_slice());
    if http.own_addresses {
        origins.allow_own_addresses();
    }
    http::Config {
        origins,
        public_prefix: url
            .map_or("", |url| url.path().trim_end_matches('/'))
            .to_owned(),
        max_body: http.max_body,
        header_timeout: http.header_timeout,
    }
}

fn session_config(config: &Config) -> session::Config {
    let sessions = &config.sessions;
    session::Config {
        max_sessions: sessions.max_sessions,
        max_sessions_per_principal: sessions.max_sessions_per_principal,
        idle_timeout: sessions.idle_timeout,
        resume_grace: sessions.resume_grace,
        replay_buffer: sessions.replay_buffer,
        max_waiting: sessions.max_message,
    }
}

/// From accept to the end of the TLS handshake.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);
