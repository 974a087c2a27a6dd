//! A new configuration, or new certificates, while the gateway runs.
//!
//! Invariants: everything that can fail is tried before anything changes; sessions of backends that
//! stay as they are notice nothing.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::time::Instant;

use crate::{
    audit::{self, Decision, Log},
    backend::Backend,
    config::{BackendEntry, Config},
    gateway::{Shared, serve_backend, session_config, snapshot},
    http::{self, Served, Snapshot},
    limit::BackendLimits,
    listener::Listener,
    package,
    policy::Accesses,
    session::EndReason,
    tls::{Acceptor, Reload},
};

/// Uses a configuration from now on, if it can be used; says what came of it.
pub(super) fn take_over(shared: &Arc<Shared>, config: Config) {
    let applied = apply(shared, config);
    if let Err(error) = &applied {
        let error = format!("{error:#}");
        tracing::error!(error, "reload refused; nothing changed");
    }
    record(shared, applied.is_ok());
}

/// Records that a configuration was taken over or not.
pub(super) fn record(shared: &Shared, taken: bool) {
    let decision = if taken {
        Decision::Allow
    } else {
        Decision::Deny
    };
    shared.log.load().note(&audit::Event {
        decision: Some(decision),
        ..audit::Event::new(audit::Name::ConfigReload)
    });
}

/// Uses a configuration from now on.
///
/// # Errors
/// What can't be loaded or bound; then nothing has changed.
fn apply(shared: &Arc<Shared>, config: Config) -> anyhow::Result<()> {
    let before = shared.config.lock().clone();
    let acceptor = (config.tls != before.tls)
        .then(|| Acceptor::load(&config.tls).context("TLS"))
        .transpose()?;
    let current = shared.listener.load_full();
    let listener = (config.listener != before.listener)
        .then(|| current.rebind(&config.listener).context("can't listen"))
        .transpose()?;
    let log = match &config.audit {
        _ if config.audit == before.audit => None,
        Some(audit) => {
            let former = shared.former.lock();
            Some(shared.log.load().reopen(audit, &former).context("audit")?)
        }
        None => Some(Log::off()),
    };
    // Nothing fails from here on.
    if let Some(log) = log {
        if !log.is_on() {
            tracing::warn!("auditing is switched off: from here on nothing is recorded");
        }
        let old = shared.log.swap(Arc::new(log));
        // It closes with the last request that owes it an outcome.
        let mut former = shared.former.lock();
        former.retain(audit::Former::is_open);
        former.extend(old.leave(&shared.log.load()));
    }
    if let Some(acceptor) = acceptor {
        shared.acceptor.store(Arc::new(acceptor));
        shared.trust.send_modify(|changes| *changes += 1);
    }
    if let Some(listener) = listener {
        shared.listener.store(Arc::new(listener));
        shared.relisten.notify_waiters();
        shared.clone().accept();
    }
    super::hide(&shared.spawner, &config);
    package::make_folder(&config.packages);
    shared.spawner.fix(config.packages.clone());
    replace(shared, &before, &config);
    *shared.config.lock() = config;
    tracing::info!("configuration reloaded");
    Ok(())
}

fn replace(shared: &Arc<Shared>, before: &Config, config: &Config) {
    let old = shared.server.snapshot();
    let keep = |served: &Served| {
        config
            .backends
            .iter()
            .any(|entry| entry.config.is_same_block(served.backend.config()))
    };
    let backends = config
        .backends
        .iter()
        .map(|entry| {
            let kept = old
                .backends
                .get(&entry.config.name)
                .filter(|served| keep(served));
            let served = match kept {
                Some(kept) => keep_backend(entry, before, kept),
                None => serve_backend(entry, &shared.spawner, &shared.log),
            };
            (entry.config.name.clone(), served)
        })
        .collect();
    let mut new = snapshot(
        config,
        &shared.listener.load().local_addrs(),
        backends,
        (&shared.log, Some(&old.auth)),
    );
    if config.limits.failed_auth == before.limits.failed_auth {
        new.logins = old.logins.clone();
    }
    if config.limits.rate == before.limits.rate {
        new.rates.clone_from(&old.rates);
    }
    shared.server.sessions().configure(session_config(config));
    shared.server.replace(new);
    let new = shared.server.snapshot();
    new.auth.run(&shared.drain);
    for served in new.backends.values() {
        served.backend.warm_up();
    }
    for served in old.backends.values().filter(|served| !keep(served)) {
        retire(shared, served.backend.clone(), config.drain_timeout);
    }
    shared.server.close_listens();
    shared.server.review_stateless(&old, &new);
    review(shared, &old, &new);
}

/// A backend that goes on, with what is new about it; what was counted stays counted.
fn keep_backend(entry: &BackendEntry, before: &Config, kept: &Served) -> Served {
    let was = before
        .backends
        .iter()
        .find(|old| old.config.name == entry.config.name);
    let limits = match was {
        Some(was) if was.limits == entry.limits => kept.limits.clone(),
        _ => Arc::new(BackendLimits::new(&entry.limits)),
    };
    kept.backend.set_limits(entry.config.limits);
    Served {
        backend: kept.backend.clone(),
        filter: entry.filter.clone(),
        accesses: Accesses::default(),
        limits,
        circles: kept.circles.clone(),
    }
}

/// Sessions whose principal lost his key or his last role there end; the others get what they may do now.
fn review(shared: &Shared, old: &Snapshot, new: &Snapshot) {
    for session in shared.server.sessions().all() {
        http::review(&session, old, new);
    }
}

/// Lets a backend's sessions finish what is in flight, ends them, and then the backend.
fn retire(shared: &Arc<Shared>, backend: Arc<Backend>, timeout: Duration) {
    tracing::info!(
        backend = backend.config().name,
        "draining a backend that was changed or removed"
    );
    backend.retire();
    shared.retired.lock().push(backend.clone());
    let gateway = shared.clone();
    shared.drain.spawn(async move {
        let end = Instant::now() + timeout;
        loop {
            let sessions = gateway.server.sessions().all();
            let mine: Vec<_> = sessions
                .into_iter()
                .filter(|s| Arc::ptr_eq(s.backend(), &backend))
                .collect();
            let over = Instant::now() >= end;
            for session in mine
                .iter()
                .filter(|session| over || session.in_flight() == 0)
            {
                session.end(EndReason::Drain);
            }
            if over || (mine.is_empty() && !backend.is_busy()) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = gateway.drain.closing() => return,
            }
        }
        backend.close().await;
        gateway
            .retired
            .lock()
            .retain(|retired| !Arc::ptr_eq(retired, &backend));
    });
}

/// Takes over certificates that were renewed.
pub(super) async fn watch_certificates(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATES) => {}
            () = shared.drain.closing() => return,
        }
        let acceptor = shared.acceptor.load_full();
        // It reads files; they are small, but their disk may be slow.
        let reload = tokio::task::spawn_blocking(move || acceptor.reload_if_changed()).await;
        if matches!(reload, Ok(Reload::Reloaded)) {
            shared.trust.send_modify(|changes| *changes += 1);
        }
    }
}

/// Resolves when `listener` is not the current one any more.
pub(super) async fn replaced(shared: &Shared, listener: &Arc<Listener>) {
    loop {
        let told = shared.relisten.notified();
        if !Arc::ptr_eq(&shared.listener.load(), listener) {
            return;
        }
        told.await;
    }
}

/// How often it is looked whether a backend's calls have ended.
const LOOK: Duration = Duration::from_millis(100);
/// How often certificates are looked at.
const CERTIFICATES: Duration = Duration::from_secs(1);
