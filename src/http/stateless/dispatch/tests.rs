//! Calls that end while they are on their way.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    num::NonZeroU32,
    task::{Context, Poll, Waker},
};

use http::HeaderMap;

use super::{
    super::{hearing::Missed, reply::Live},
    *,
};
use crate::{
    audit::Log,
    auth::{self, Authenticator},
    backend::{Limits, Outcome},
    drain::Drain,
    http::{Config, Server, Snapshot, metadata::Metadata, origin::Origins},
    limit::{InFlight, Logins, Rate},
    policy,
    principal::{Method, Principal},
    session::{self, table::Table},
};

const SECOND: Duration = Duration::from_secs(1);

fn snapshot() -> Snapshot {
    let rate = Rate {
        count: NonZeroU32::MIN,
        per: SECOND,
    };
    Snapshot {
        auth: Authenticator::new(&auth::Config::default(), "", &BTreeSet::new(), None),
        policy: policy::Config::default(),
        backends: std::collections::HashMap::new(),
        http: Config {
            origins: Origins::new(&[], &[], &[]),
            public_prefix: String::new(),
            max_body: 1024,
            header_timeout: SECOND,
        },
        metadata: Metadata::default(),
        log: Log::off(),
        logins: Arc::new(Logins::new(rate)),
        rates: None,
    }
}

fn server() -> Arc<Server> {
    let sessions = session::Config {
        max_sessions: 1,
        max_sessions_per_principal: 1,
        idle_timeout: SECOND,
        resume_grace: SECOND,
        replay_buffer: 1024,
        max_waiting: 1024,
    };
    let table = Table::new(
        sessions,
        Arc::new(arc_swap::ArcSwap::from_pointee(Log::off())),
    );
    Server::new(snapshot(), table, Drain::new())
}

fn granted() -> Arc<Granted> {
    granted_by(Method::Key)
}

fn granted_by(method: Method) -> Arc<Granted> {
    let server = server();
    let principal = Principal::new(method, "a", vec!["all".to_owned()], None);
    let mut roles = policy::Config::default();
    let all = [("*".to_owned(), policy::Grant::default())];
    let role = policy::Role {
        backends: all.into(),
    };
    roles.roles.insert("all".to_owned(), role);
    let access = roles.access(&principal, "m", &policy::filter::Config::default());
    Arc::new(Granted {
        snapshot: server.snapshot(),
        server,
        principal,
        backend: "m".to_owned(),
        access: access.unwrap(),
        address: Ipv4Addr::LOCALHOST.into(),
    })
}

fn declared() -> Declared {
    Declared {
        capabilities: crate::backend::Capabilities::default(),
        tasks: false,
        level: None,
    }
}

/// A call whose child answers nothing; its client waits, unless it is `parked`.
fn turn(granted: &Arc<Granted>, parked: bool) -> Arc<Turn> {
    let reply = (!parked).then(|| Reply::new(false));
    let state = State {
        id: Bytes::from_static(b"1"),
        token: None,
        principal: granted.principal.clone(),
        declared: declared(),
        access: granted.access.clone(),
        prune: None,
        ticket: 0,
        lease: None,
        instance: 0,
        reply,
        pending: None,
        asked: Asked::default(),
        missed: Missed::default(),
        late: None,
        ended: false,
    };
    Arc::new_cyclic(|me: &Weak<Turn>| Turn {
        number: turn::number(),
        granted: granted.clone(),
        method: Cow::Borrowed("tools/call"),
        uri: None,
        side: Side::Legacy(None),
        need: Need::Legacy(crate::backend::Capabilities::default()),
        bond: None,
        wants: None,
        catalog: None,
        listed: AtomicBool::new(false),
        feigned: false,
        state: Mutex::new(state),
        me: me.clone(),
    })
}

fn frame() -> Frame {
    let params = br#"{"name":"t"}"#;
    Frame::from_client(frame::request(b"1", "tools/call", Some(params))).unwrap()
}

fn call() -> Call {
    Call {
        id: Bytes::from_static(b"1"),
        token: None,
        lane: 0,
        prune: Prune::nothing(),
        slot: InFlight::free(),
        pending: Pending::nothing(),
        started: Instant::now(),
    }
}

fn instance() -> Arc<Instance> {
    let limits = Limits {
        max_message: 1024,
        max_outbox: 1024,
        request_timeout: SECOND,
    };
    let limits = Arc::new(arc_swap::ArcSwap::from_pointee(limits));
    Instance::new("m", limits, false, None)
}

/// How many calls the instance has after `turn` was sent.
fn sent(granted: &Arc<Granted>, turn: &Arc<Turn>) -> usize {
    let headers = HeaderMap::new();
    let way = Way {
        granted,
        headers: &headers,
        declared: declared(),
        reply: Reply::new(false),
        frame: frame(),
        instead: None,
        prune: Prune::nothing(),
        wants: None,
        catalog: None,
    };
    let instance = instance();
    way.hand_over(turn, &instance, (&way.frame, call()));
    instance.in_flight()
}

#[tokio::test]
async fn a_call_that_ended_before_it_was_sent_is_not_sent() {
    let granted = granted();
    assert_eq!(sent(&granted, &turn(&granted, false)), 1);
    let left = turn(&granted, false);
    left.abandon();
    assert_eq!(sent(&granted, &left), 0);
    // The client went, and nobody has taken the call back yet.
    let unheard = turn(&granted, false);
    unheard.state.lock().reply = None;
    assert_eq!(sent(&granted, &unheard), 0);
}

fn retry(granted: &Arc<Granted>, reply: &Arc<Reply>) -> Retry {
    Retry {
        round: 0,
        id: Bytes::from_static(b"2"),
        token: None,
        reply: reply.clone(),
        pending: Pending::nothing(),
        granted: granted.clone(),
        declared: declared(),
        prune: Prune::nothing(),
    }
}

#[tokio::test]
async fn a_retry_whose_call_ended_meanwhile_gets_back_what_it_brought() {
    let granted = granted();
    let reply = Reply::new(false);
    let parked = turn(&granted, true);
    assert!(parked.resume(retry(&granted, &reply), b"{}").is_ok());
    assert!(!reply.is_over(), "the child goes on");

    let over = turn(&granted, true);
    over.abandon();
    let Err(refused) = over.resume(retry(&granted, &reply), b"{}") else {
        panic!("a call that is over goes on");
    };
    assert_eq!(&refused.id[..], b"2");
    assert!(over.state.lock().reply.is_none(), "and nothing of it stays");
}

#[tokio::test]
async fn a_retry_that_comes_as_its_call_is_given_up_is_answered() {
    let granted = granted();
    let reply = Reply::new(false);
    let turn = turn(&granted, true);
    assert!(turn.resume(retry(&granted, &reply), b"{}").is_ok());
    turn.abandon();
    assert!(reply.is_over(), "it hears that its state is none");
}

fn progress(done: u32) -> Frame {
    let params = format!(r#"{{"progressToken":1,"progress":{done}}}"#);
    let text =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
    Frame::from_child(Bytes::from(text)).unwrap()
}

/// What a reader gets now; its retry gave the token "new".
fn heard(live: &mut Live) -> String {
    let mut context = Context::from_waker(Waker::noop());
    match live.poll_next(&mut context) {
        Poll::Ready(Some(Ok(text))) => String::from_utf8(text.to_vec()).unwrap(),
        _ => String::new(),
    }
}

fn retry_with_token(granted: &Arc<Granted>, reply: &Arc<Reply>) -> Retry {
    Retry {
        token: Some(Bytes::from_static(br#""new""#)),
        ..retry(granted, reply)
    }
}

#[tokio::test]
async fn a_retry_hears_first_what_its_call_said_meanwhile() {
    let granted = granted();
    let parked = turn(&granted, true);
    (1..=2).for_each(|done| parked.progress(0, progress(done)));
    let reply = Reply::new(true);
    let mut live = Live::new(Held::new(reply.clone(), Arc::new(Nobody)));
    assert!(
        parked
            .resume(retry_with_token(&granted, &reply), b"{}")
            .is_ok()
    );
    parked.progress(0, progress(3));
    let text = heard(&mut live);
    for done in 1..=3 {
        let told = format!(r#"{{"progressToken":"new","progress":{done}}}"#);
        assert!(text.contains(&told), "{text}");
    }
    assert_eq!(text.matches("data:").count(), 3, "{text}");
    assert_eq!(heard(&mut live), "");
}

#[tokio::test]
async fn a_retry_that_takes_no_stream_is_answered_all_the_same() {
    let granted = granted();
    let parked = turn(&granted, true);
    parked.progress(0, progress(1));
    let reply = Reply::new(false);
    assert!(
        parked
            .resume(retry_with_token(&granted, &reply), b"{}")
            .is_ok()
    );
    parked.answer(call(), Outcome::Failed(Failure::Crashed));
    assert!(reply.is_over());
}

#[tokio::test]
async fn whose_rights_ended_meanwhile_hears_nothing_of_it() {
    let granted = granted_by(Method::Mtls);
    let parked = turn(&granted, true);
    parked.progress(0, progress(1));
    // After the retry's credential was looked at: a configuration without client certificates.
    granted.server.replace(snapshot());
    let reply = Reply::new(true);
    let mut live = Live::new(Held::new(reply.clone(), Arc::new(Nobody)));
    assert!(
        parked
            .resume(retry_with_token(&granted, &reply), b"{}")
            .is_ok()
    );
    let text = heard(&mut live);
    assert!(
        text.contains(r#""error""#) && !text.contains("progress"),
        "{text}"
    );
}

#[tokio::test]
async fn an_answer_comes_after_what_is_kept() {
    let granted = granted();
    let turn = turn(&granted, false);
    let reply = turn.state.lock().reply.clone().unwrap();
    turn.state.lock().missed.keep(progress(1));
    let result = Frame::from_child(frame::result_response(b"1", b"{}")).unwrap();
    turn.answer(call(), Outcome::Answer(result));
    assert!(!reply.is_over());
    assert!(turn.state.lock().late.is_some());
}

#[tokio::test]
async fn a_retry_that_comes_with_the_answer_is_answered() {
    let granted = granted();
    for _ in 0..2000 {
        let parked = turn(&granted, true);
        parked.progress(0, progress(1));
        let reply = Reply::new(true);
        std::thread::scope(|scope| {
            let answering = || {
                let result = frame::result_response(b"1", b"{}");
                let result = Frame::from_child(result).unwrap();
                parked.answer(call(), Outcome::Answer(result));
            };
            scope.spawn(answering);
            let resumed = parked.resume(retry_with_token(&granted, &reply), b"{}");
            assert!(resumed.is_ok());
        });
        assert!(reply.is_over());
    }
}
