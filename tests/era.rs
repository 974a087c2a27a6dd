//! What a child speaks is found out on real processes: by one that serves nobody, once.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test does not expect fails it"
)]

use std::{fs, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use gatehouse::{
    audit,
    backend::{
        Backend, Config, Era, Isolation, LeaseError, Limits, Protocol, Restart,
        child::{self, Spawner},
    },
    drain::Drain,
    principal::{Method, Principal},
};
use tempfile::TempDir;

/// Answers the first line with `$1`, the second with `$2` and so on, then ends; `-` is silence.
const SAY: &str = r#"
echo started >> started
for answer in "$@"; do
    read -r line || exit 0
    printf '%s\n' "$line" >> heard
    if [ "$answer" != - ]; then printf '%s\n' "$answer"; fi
done
read -r line
"#;

const MODERN: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}}"#;
const UNKNOWN: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}"#;
const OTHER_VERSION: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported","data":{"supported":["2026-07-28"],"requested":"x"}}}"#;

struct Bench {
    backend: Arc<Backend>,
    folder: TempDir,
}

impl Bench {
    async fn new(answers: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        Self::script(SAY, answers, change).await
    }

    async fn script(script: &str, answers: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = [&["sh", "-c", script, "child"], answers].concat();
        let mut config = config(command.into_iter().map(str::to_owned).collect());
        config.child.cwd = Some(folder.path().to_owned());
        change(&mut config);
        let launcher = env!("CARGO_BIN_EXE_gatehouse").into();
        let spawner = Spawner::with_launcher(launcher, Drain::new())
            .await
            .unwrap();
        let log = Arc::new(ArcSwap::from_pointee(audit::Log::off()));
        Self {
            backend: Backend::new(config, Arc::new(spawner), log),
            folder,
        }
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Children that were started so far.
    fn started(&self) -> usize {
        self.lines("started").len()
    }

    async fn is_modern(&self) -> bool {
        self.backend.speaks_modern().await.unwrap().is_some()
    }
}

fn config(command: Vec<String>) -> Config {
    Config {
        name: "b".to_owned(),
        child: child::Config {
            command,
            cwd: None,
            env: Vec::new(),
            inherit_env: Vec::new(),
            stop_timeout: Duration::from_secs(1),
            sandbox: gatehouse::sandbox::Config::default(),
            installed: None,
        },
        secrets: Default::default(),
        pins: Default::default(),
        protocol: Protocol::Auto,
        isolation: Isolation::Session,
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
    }
}

#[tokio::test]
async fn a_modern_child_is_known_by_its_discover_result_and_asked_once() {
    let bench = Bench::new(&[MODERN], |_| {}).await;
    assert_eq!(bench.backend.known_era(), None);
    let ask = || bench.backend.speaks_modern();
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    let said = one.unwrap().unwrap();
    assert_eq!(said.version, "2026-07-28");
    assert!(
        said.result
            .starts_with(br#"{"resultType":"complete","supp"#)
    );
    assert_eq!(
        (two.unwrap().unwrap(), three.unwrap().unwrap()),
        (said.clone(), said)
    );
    assert!(bench.is_modern().await);
    assert_eq!(bench.backend.known_era(), Some(Era::Modern));
    assert_eq!(bench.started(), 1);
    let heard = bench.lines("heard");
    assert_eq!(heard.len(), 1);
    let asked: serde_json::Value = serde_json::from_str(&heard[0]).unwrap();
    assert_eq!(asked["method"], "server/discover");
    let meta = &asked["params"]["_meta"];
    assert_eq!(
        meta["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
    assert_eq!(
        meta["io.modelcontextprotocol/clientCapabilities"],
        serde_json::json!({})
    );
}

#[tokio::test]
async fn a_child_that_offers_our_revision_is_asked_again_in_it() {
    let second = MODERN.replace(r#""id":1"#, r#""id":2"#);
    let bench = Bench::new(&[OTHER_VERSION, &second], |_| {}).await;
    assert!(bench.is_modern().await);
    assert_eq!(bench.lines("heard").len(), 2);
    // Not for ever.
    let again = OTHER_VERSION.replace(r#""id":1"#, r#""id":2"#);
    let bench = Bench::new(&[OTHER_VERSION, &again, "-"], |_| {}).await;
    assert!(!bench.is_modern().await);
    assert_eq!(bench.lines("heard").len(), 2);
}

#[tokio::test]
async fn any_other_error_silence_and_an_end_mean_that_a_child_is_not_modern() {
    let impatient = |config: &mut Config| config.start_timeout = Duration::from_millis(300);
    let nonsense = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
    for (answers, change) in [
        (&[UNKNOWN][..], None),
        (&[nonsense], None),
        (&[], None),
        (&["-"], Some(impatient)),
    ] {
        let bench = Bench::new(answers, |config| {
            if let Some(change) = change {
                change(config);
            }
        })
        .await;
        assert!(!bench.is_modern().await, "{answers:?}");
        assert!(!bench.is_modern().await, "{answers:?}");
        assert_eq!(bench.started(), 1, "{answers:?}");
        assert_eq!(bench.backend.known_era(), Some(Era::Legacy));
    }
}

#[tokio::test]
async fn the_sibling_that_was_asked_is_gone_and_takes_nobodys_place() {
    let bench = Bench::new(&[UNKNOWN], |_| {}).await;
    assert!(!bench.is_modern().await);
    // There is one place only.
    let lease = bench.backend.lease(&alice()).await.map(|_| ());
    assert_eq!(lease, Ok(()));
}

#[tokio::test]
async fn a_child_that_ends_when_it_is_asked_does_not_open_the_circuit() {
    let bench = Bench::script("echo started >> started; read -r line", &[], |_| {}).await;
    for _ in 0..4 {
        assert!(!bench.is_modern().await);
        bench.backend.contradict(Era::Legacy);
    }
    assert!(bench.started() > 2, "give_up_after is 2");
    assert_eq!(bench.backend.lease(&alice()).await.map(|_| ()), Ok(()));
}

#[tokio::test]
async fn a_contradicted_verdict_is_found_anew_but_not_without_end() {
    // Modern at first, legacy ever after.
    let changing = format!(
        r#"echo started >> started
        read -r line
        if [ -e changed ]; then echo '{UNKNOWN}'; else echo '{MODERN}'; fi
        read -r line"#
    );
    let bench = Bench::script(&changing, &[], |_| {}).await;
    assert!(bench.is_modern().await);
    assert!(
        !bench.backend.contradict(Era::Legacy),
        "that isn't the verdict"
    );
    fs::write(bench.folder.path().join("changed"), "").unwrap();
    assert!(bench.is_modern().await, "nobody has complained");
    assert!(bench.backend.contradict(Era::Modern));
    assert!(!bench.is_modern().await);
    let mut probes = bench.started();
    assert_eq!(probes, 2);
    while bench.backend.contradict(Era::Legacy) {
        assert!(!bench.is_modern().await);
        probes += 1;
        assert!(probes < 10, "no bound");
    }
    assert!(!bench.is_modern().await);
    assert_eq!(bench.started(), probes);
}

#[tokio::test]
async fn who_knows_what_a_child_speaks_may_say_so() {
    let legacy = |config: &mut Config| config.protocol = Protocol::Legacy;
    let bench = Bench::new(&[MODERN], legacy).await;
    assert!(!bench.is_modern().await);
    assert_eq!(
        (bench.started(), bench.backend.known_era()),
        (0, Some(Era::Legacy))
    );
    assert!(!bench.backend.contradict(Era::Legacy));

    let modern = |config: &mut Config| config.protocol = Protocol::Modern;
    let bench = Bench::new(&[MODERN], modern).await;
    assert_eq!(bench.backend.known_era(), Some(Era::Modern));
    assert!(bench.is_modern().await);

    let bench = Bench::new(&[UNKNOWN], modern).await;
    assert_eq!(bench.backend.speaks_modern().await, Err(LeaseError::Start));
    assert_eq!(bench.backend.known_era(), Some(Era::Modern));
    // It is a failure like others: after so many the circuit opens.
    assert_eq!(bench.backend.speaks_modern().await, Err(LeaseError::Start));
    let open = bench.backend.speaks_modern().await;
    assert!(
        matches!(open, Err(LeaseError::CircuitOpen { .. })),
        "{open:?}"
    );
    assert_eq!(bench.started(), 2);
}

#[tokio::test]
async fn a_command_that_can_not_be_started_is_no_verdict() {
    let nowhere = |config: &mut Config| config.child.command = vec!["/nowhere/x".to_owned()];
    let bench = Bench::new(&[], nowhere).await;
    assert_eq!(bench.backend.speaks_modern().await, Err(LeaseError::Start));
    assert_eq!(bench.backend.known_era(), None);
}

#[tokio::test]
async fn a_warm_instance_is_asked_and_another_takes_its_place() {
    let bench = Bench::new(&[MODERN], |config| {
        config.warm = 1;
        config.max_instances = 2;
    })
    .await;
    bench.backend.warm_up();
    assert!(bench.is_modern().await);
    let lease = bench.backend.lease(&alice()).await.map(|_| ());
    assert_eq!(lease, Ok(()));
    bench.backend.close().await;
    assert_eq!(
        bench.backend.speaks_modern().await,
        Err(LeaseError::Draining)
    );
}

fn alice() -> Principal {
    Principal::new(Method::Key, "alice", Vec::new(), None)
}
