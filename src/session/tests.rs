//! Sessions on a real child, without a server in front of them.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{
    Config, Transport,
    table::{Opening, Table},
};
use crate::{
    audit,
    backend::{
        self, Backend, Isolation, Limits, Protocol, Restart,
        child::{self, Containment, Spawner},
    },
    drain::Drain,
    policy::{self, Access, Grant, Role, filter},
    principal::{Method, Principal},
};

fn alice() -> Principal {
    Principal::new(Method::Key, "alice", vec!["all".to_owned()], None)
}

fn access() -> Access {
    let role = Role {
        backends: [("*".to_owned(), Grant::default())].into(),
    };
    let config = policy::Config {
        roles: [("all".to_owned(), role)].into(),
    };
    let access = config.access(&alice(), "b", &filter::Config::default());
    access.expect("the role grants it")
}

/// One `cat` for all.
fn backend(log: audit::Current) -> Arc<Backend> {
    let child = child::Config {
        command: vec!["cat".to_owned()],
        cwd: None,
        env: Vec::new(),
        inherit_env: Vec::new(),
        stop_timeout: Duration::from_secs(1),
        sandbox: Default::default(),
        installed: None,
    };
    let config = backend::Config {
        name: "b".to_owned(),
        child,
        secrets: Default::default(),
        pins: Default::default(),
        protocol: Protocol::Legacy,
        isolation: Isolation::Shared,
        warm: 0,
        max_instances: 1,
        start_timeout: Duration::from_secs(20),
        restart: Restart {
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(10),
            give_up_after: 2,
        },
        limits: Limits {
            max_message: 1 << 20,
            max_outbox: 1 << 20,
            request_timeout: Duration::from_secs(60),
        },
    };
    let spawner = Spawner::with("unused".into(), Containment::Group, Drain::new());
    Backend::new(config, Arc::new(spawner), log)
}

#[tokio::test]
async fn a_session_is_opened_with_its_reader_and_outlives_it_by_resume_grace_alone() {
    let log = Arc::new(ArcSwap::from_pointee(audit::Log::off()));
    let backend = backend(log.clone());
    let config = Config {
        max_sessions: 10,
        max_sessions_per_principal: 10,
        idle_timeout: Duration::from_secs(60),
        resume_grace: Duration::ZERO,
        replay_buffer: 1 << 20,
        max_waiting: 1 << 20,
    };
    let table = Table::new(config, log);
    // Looked over at every moment: once between its opening and its reader would be its end.
    let done = Arc::new(AtomicBool::new(false));
    let sweeper = {
        let (table, done) = (table.clone(), done.clone());
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let sessions = table.all();
                let now = Instant::now();
                sessions
                    .iter()
                    .for_each(|session| session.sweep(now, &config));
            }
        })
    };
    for _ in 0..1500 {
        let opening = Opening {
            transport: Transport::Sse,
            access: access(),
            lease: backend.lease(&alice()).await.unwrap(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let place = table.reserve(&alice()).unwrap();
        let (session, reading) = place.open_read(opening).unwrap();
        session.sweep(Instant::now(), &config);
        assert!(!session.has_ended(), "it ended under its reader");
        session.detach(reading.claim);
        session.sweep(Instant::now(), &config);
        assert!(session.has_ended(), "nobody reads it, and it goes on");
    }
    done.store(true, Ordering::Relaxed);
    sweeper.join().unwrap();
    assert!(table.is_empty());
    backend.close().await;
}
