//! `proxy.toml` as a whole: good files mean what they say, bad ones say where and why.
//!
//! Hermetic: files, variables and programs are those of [`World`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use gatehouse::{
    auth,
    backend::Isolation,
    config::{
        BackendEntry, Config, Environment, Exposed, Parts, Problems, Severity, Source, Strictness,
        fuzz_config,
    },
    tls,
};

/// What exists beside the file; its folder is [`BASE`].
struct World {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl World {
    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (ours, other) = (pair(), pair());
            let files = [
                ("certs/fullchain.pem", ours.cert.pem()),
                ("certs/privkey.pem", ours.signing_key.serialize_pem()),
                ("certs/other.pem", other.signing_key.serialize_pem()),
                ("certs/open.pem", ours.signing_key.serialize_pem()),
                ("certs/clients.pem", ours.cert.pem()),
                ("certs/clients.crl", String::new()),
                ("certs/login-ca.pem", other.cert.pem()),
                ("secrets/introspection", format!("{SECRET}\n")),
                ("certs/empty.pem", String::new()),
                ("secrets/api-token", format!("{SECRET}\n")),
                ("secrets/open", format!("{SECRET}\n")),
                ("secrets/crlf", format!("{SECRET}\r\n")),
                ("gatehouse.lock", LOCK.to_owned()),
                ("secrets/operator.sha256", format!("{}\n", "ab".repeat(32))),
            ];
            let mut files: BTreeMap<_, _> = files
                .into_iter()
                .map(|(name, text)| (Path::new(BASE).join(name), text.into_bytes()))
                .collect();
            files.insert(Path::new(BASE).join("secrets/binary"), vec![0xff, 0xfe]);
            World { files }
        })
    }
}

impl Environment for World {
    fn var(&self, name: &str) -> Option<OsString> {
        match name {
            "PATH" => Some("/usr/bin:/opt/bin".into()),
            "REGION" => Some("north".into()),
            "TOKEN" => Some(SECRET.into()),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.files.get(path).cloned();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exposed(&self, path: &Path) -> bool {
        path.ends_with("secrets/open") || path.ends_with("certs/open.pem")
    }

    fn executable(&self, path: &Path) -> bool {
        let programs = ["/usr/bin/npx", "/opt/bin/uvx", "/etc/gatehouse/bin/server"];
        programs.iter().any(|program| path == Path::new(program))
    }

    fn folder(&self, path: &Path) -> bool {
        path == Path::new("/srv")
            || path == Path::new("/etc/gatehouse/secrets")
            || path == Path::new("/etc/gatehouse/work")
    }

    fn exists(&self, path: &Path) -> bool {
        let there = ["/srv/data", "/srv/memory", "/srv/repository", "/usr"];
        there.iter().any(|place| path == Path::new(place))
    }

    fn user(&self, name: &str) -> Option<(u32, u32)> {
        (name == "nobody").then_some((65534, 65534))
    }

    /// 2026-01-01T00:00:00Z.
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
    }
}

/// What [`World`] has pinned.
const LOCK: &str = r#"
version = 1
[backends.pinned]
[[backends.pinned.tools]]
name = "read"
digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
hidden = ["tag character U+E0041"]
shows = ["description: x"]
"#;
const BASE: &str = "/etc/gatehouse";
/// Stands in files and variables only; no message may ever show it.
const SECRET: &str = "s3cr3t-t0ken";

fn judge(text: &str, strictness: Strictness) -> Result<Config, Problems> {
    let source = Source {
        name: "proxy.toml",
        text,
        base: Path::new(BASE),
    };
    Config::parse(&source, strictness, World::get())
}

fn good(text: &str) -> Config {
    judge(text, Strictness::Check).unwrap_or_else(|problems| panic!("{problems}"))
}

fn fixtures(kind: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// The lines `# WORD: …` at a fixture's head.
fn expected<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let head = text.lines().take_while(|line| line.starts_with('#'));
    let prefix = format!("# {word}: ");
    head.filter_map(|line| line.strip_prefix(&prefix)).collect()
}

#[test]
fn each_bad_file_is_refused_for_exactly_what_its_head_says() {
    let files = fixtures("invalid");
    assert!(files.len() > 30);
    for (name, text) in files {
        let problems = judge(&text, Strictness::Check).expect_err(&name);
        let shown = problems.render(false);
        let (errors, helps) = (expected(&text, "error"), expected(&text, "help"));
        assert!(!errors.is_empty(), "{name}");
        assert_eq!(problems.errors(), errors.len(), "{name}:\n{shown}");
        let mut found = problems.iter().filter(|p| p.severity() == Severity::Error);
        for error in errors {
            let (place, message) = error.split_once(' ').unwrap();
            let problem = found.next().unwrap();
            assert_eq!(
                problems.location(problem),
                format!("proxy.toml:{place}"),
                "{name}:\n{shown}"
            );
            assert!(
                problem.message().contains(message),
                "{name}: {message}\n{shown}"
            );
            assert!(
                problem.advice().is_some_and(|help| !help.is_empty()),
                "{name}:\n{shown}"
            );
            assert!(
                shown.contains(&format!("proxy.toml:{place}")),
                "{name}:\n{shown}"
            );
            assert!(shown.contains(message), "{name}: {message}\n{shown}");
        }
        for help in helps {
            assert!(shown.contains(help), "{name}: {help}\n{shown}");
        }
        assert!(!shown.contains(SECRET), "{name}:\n{shown}");
        assert!(!shown.contains("literal-secret"), "{name}:\n{shown}");
    }
}

#[test]
fn each_good_file_is_accepted_with_exactly_its_warnings() {
    for (name, text) in fixtures("valid") {
        let config = judge(&text, Strictness::Check).unwrap_or_else(|p| panic!("{name}:\n{p}"));
        let shown = config.warnings.render(false);
        let warnings = expected(&text, "warning");
        assert_eq!(
            config.warnings.warnings(),
            warnings.len(),
            "{name}:\n{shown}"
        );
        for warning in warnings {
            assert!(shown.contains(warning), "{name}: {warning}\n{shown}");
        }
        assert!(!shown.contains(SECRET), "{name}:\n{shown}");
    }
}

#[test]
fn the_example_is_good_and_shows_the_defaults() {
    let text = include_str!("../proxy.toml.example");
    let config = good(text);
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    let small = good(include_str!("config/valid/minimal.toml"));
    assert_eq!(config.sessions, small.sessions);
    assert_eq!(config.drain_timeout, small.drain_timeout);
    assert_eq!(config.http.max_body, small.http.max_body);
    assert_eq!(config.http.header_timeout, small.http.header_timeout);
    let (shown, default) = (&config.backends[0].config, &small.backends[0].config);
    assert_eq!(shown.isolation, default.isolation);
    assert_eq!(shown.warm, default.warm);
    assert_eq!(shown.max_instances, default.max_instances);
    assert_eq!(shown.start_timeout, default.start_timeout);
    assert_eq!(shown.restart, default.restart);
    assert_eq!(shown.limits, default.limits);
    assert_eq!(shown.child.stop_timeout, default.child.stop_timeout);
}

#[test]
fn every_value_reaches_its_module() {
    let config = good(include_str!("../proxy.toml.example"));
    assert_eq!(config.listener.addresses, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!(
        config.tls.source,
        tls::Source::Files {
            cert: "/etc/gatehouse/certs/fullchain.pem".into(),
            key: "/etc/gatehouse/certs/privkey.pem".into(),
        }
    );
    assert_eq!(config.http.allowed_origins, ["https://app.example.com"]);
    assert_eq!(
        config.http.allowed_hosts,
        ["mcp.example.com", "0.0.0.0", "localhost"]
    );
    assert_eq!(config.sessions.max_message, 64 << 20);
    assert_eq!(config.auth.keys[1].sha256, [0xab; 32]);
    assert_eq!(config.auth.keys[0].roles, ["reader"]);
    assert!(config.auth.keys[0].expires > Some(World::get().now()));
    let grant = &config.policy.roles["reader"].backends["filesystem"];
    assert!(grant.tools.as_ref().unwrap().matches("read_file"));
    assert!(!grant.tools.as_ref().unwrap().matches("write_file"));
    assert!(!grant.prompts.as_ref().unwrap().matches("any"));
    assert_eq!(config.policy.roles["reader"].backends["time"].tools, None);
}

#[test]
fn every_value_of_a_backend_reaches_it() {
    let config = good(include_str!("../proxy.toml.example"));
    let entry = &config.backends[0];
    assert_eq!(entry.config.child.cwd.as_deref(), Some(Path::new("/srv")));
    let env: Vec<_> = entry
        .config
        .child
        .env
        .iter()
        .map(|(k, v)| (k.as_str(), v.expose()))
        .collect();
    assert_eq!(
        env,
        [
            ("LOG_LEVEL", "info"),
            ("API_TOKEN", SECRET),
            ("REGION", "north")
        ]
    );
    assert_eq!(entry.config.child.inherit_env, ["HTTPS_PROXY"]);
    assert!(
        entry
            .filter
            .tools
            .deny
            .as_ref()
            .unwrap()
            .matches("write_file")
    );
    assert!(
        entry
            .filter
            .methods
            .deny
            .as_ref()
            .unwrap()
            .matches("sampling/createMessage")
    );
    assert!(entry.filter.rules.read_arguments());
    assert!(!entry.filter.redact.is_empty());
    assert!(config.backends[1].filter.rules.is_empty());
    assert_eq!(config.backends[1].config.isolation, Isolation::Shared);
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn every_file_that_matters_is_watched() {
    let config = good(include_str!("../proxy.toml.example"));
    let watched: Vec<_> = config
        .watched
        .iter()
        .map(|path| path.to_str().unwrap())
        .collect();
    assert_eq!(
        watched,
        [
            "/etc/gatehouse/certs/fullchain.pem",
            "/etc/gatehouse/certs/privkey.pem",
            "/etc/gatehouse/secrets/api-token",
            "/etc/gatehouse/secrets/introspection",
            "/etc/gatehouse/secrets/operator.sha256",
        ]
    );
}

#[test]
fn the_example_names_every_key_and_nothing_that_has_to_wait() {
    let text = include_str!("../proxy.toml.example");
    for waiting in ["acme", "[admin]"] {
        assert!(!text.contains(waiting), "{waiting}");
    }
}

#[test]
fn a_missing_program_stops_check_and_not_serve() {
    let text = include_str!("config/invalid/program-missing.toml");
    assert!(judge(text, Strictness::Check).is_err());
    let config = judge(text, Strictness::Serve).unwrap();
    assert_eq!(config.warnings.warnings(), 3);
    assert!(config.warnings.to_string().contains("not on PATH"));
}

#[test]
fn expansion_trims_one_line_break_and_knows_the_dollar() {
    let config = good(include_str!("config/valid/expansion.toml"));
    let env: BTreeMap<_, _> = config.backends[0]
        .config
        .child
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(env["FILE"], SECRET);
    assert_eq!(env["CRLF"], SECRET);
    assert_eq!(env["BOTH"], format!("x-north-{SECRET}-y"));
    assert_eq!(env["DOLLAR"], "$5 ${REGION} $HOME $");
    assert_eq!(env["NOTHING"], "");
    assert_eq!(
        config.backends[0].config.child.command[0],
        "/etc/gatehouse/bin/server"
    );
    assert_eq!(
        config.backends[0].config.child.cwd.as_deref(),
        Some(Path::new("/etc/gatehouse/work"))
    );
}

#[test]
fn anonymous_access_gets_a_role_when_none_is_defined() {
    let config = good(include_str!("config/valid/anonymous.toml"));
    assert!(config.auth.anonymous);
    assert!(config.policy.roles["anonymous"].backends.contains_key("*"));
    let config = good(include_str!("config/valid/anonymous-role.toml"));
    assert!(!config.policy.roles["anonymous"].backends.contains_key("*"));
}

#[test]
fn a_certificate_of_our_own_is_for_every_name_of_the_gateway() {
    let config = good(include_str!("config/valid/self-signed.toml"));
    let tls::Source::SelfSigned { dir, names } = config.tls.source else {
        panic!("self-signed was asked for");
    };
    assert_eq!(dir, Path::new(BASE));
    assert_eq!(
        names,
        [
            "mcp.example.com",
            "192.0.2.1",
            "::1",
            "localhost",
            "127.0.0.1",
            "gate.internal"
        ]
    );
    assert_eq!(config.http.allowed_hosts, ["gate.internal"]);
}

#[test]
fn without_a_file_nothing_is_exposed_unprotected() {
    let parts = |address: &str, source: tls::Source, anonymous: bool| Parts {
        addresses: vec![address.parse().unwrap()],
        tls: tls::Config {
            source,
            keylog: false,
            clients: None,
        },
        auth: auth::Config {
            anonymous,
            ..auth::Config::default()
        },
        backends: vec![BackendEntry::new("a".to_owned(), vec!["b".to_owned()])],
    };
    let own = || tls::Source::SelfSigned {
        dir: ".".into(),
        names: Vec::new(),
    };
    let refused = Config::without_file(parts("192.0.2.1:1", tls::Source::None, false));
    assert!(matches!(refused, Err(Exposed::Plain(_))));
    let refused = Config::without_file(parts("0.0.0.0:1", own(), true));
    assert!(matches!(refused, Err(Exposed::Anonymous(_))));
    let config = Config::without_file(parts("127.0.0.1:1", tls::Source::None, true)).unwrap();
    assert!(config.policy.roles["anonymous"].backends.contains_key("*"));
    assert_eq!(config.http.allowed_hosts, ["127.0.0.1", "localhost"]);
    let file = good(include_str!("config/valid/minimal.toml"));
    assert_eq!(config.sessions, file.sessions);
    assert_eq!(config.http.max_body, file.http.max_body);
    assert_eq!(config.drain_timeout, file.drain_timeout);
    assert_eq!(config.backends[0].config.warm, file.backends[0].config.warm);
    assert!(Config::without_file(parts("192.0.2.1:1", own(), false)).is_ok());
}

#[test]
fn files_are_read_from_disk_with_the_path_as_given_in_messages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    let missing = Config::load(&path, Strictness::Serve).unwrap_err();
    assert!(
        missing.to_string().contains("can't read the configuration"),
        "{missing}"
    );
    std::fs::write(&path, b"[server]\nx = \"\xff\"\n").unwrap();
    let binary = Config::load(&path, Strictness::Serve).unwrap_err();
    assert!(
        binary.to_string().contains("line 2 is not UTF-8"),
        "{binary}"
    );
    std::fs::write(&path, include_str!("config/valid/minimal.toml")).unwrap();
    let config = Config::load(&path, Strictness::Serve).unwrap();
    assert_eq!(config.watched, std::slice::from_ref(&path));
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    let large = Config::load(&path, Strictness::Serve).unwrap_err();
    assert!(large.to_string().contains("larger than 1 MiB"), "{large}");
    let folder = Config::load(folder.path(), Strictness::Serve).unwrap_err();
    assert!(
        folder.to_string().contains("not a regular file"),
        "{folder}"
    );
}

#[test]
fn the_corpus_and_every_cut_of_the_example_do_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzz_config(&std::fs::read(entry.unwrap().path()).unwrap());
    }
    let example = include_bytes!("../proxy.toml.example");
    for end in (0..example.len()).step_by(37) {
        fuzz_config(&example[..end]);
        fuzz_config(&example[end..]);
    }
    let mut deep = b"a = ".to_vec();
    deep.extend([b'['; 50_000]);
    fuzz_config(&deep);
    fuzz_config(&b"[a.".repeat(20_000));
    fuzz_config(&b"x=1\n".repeat(5_000));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 64, ..Default::default() })]

    #[test]
    fn changed_files_never_panic(cut in 0..6000_usize, junk in "[\\[\\]{}=\"'#\n.$a0é\u{1F600}-]{0,12}", length in 0..40_usize) {
        let example = include_str!("../proxy.toml.example");
        let start = example.floor_char_boundary(cut.min(example.len()));
        let end = example.floor_char_boundary((start + length).min(example.len()));
        fuzz_config(format!("{}{junk}{}", &example[..start], &example[end..]).as_bytes());
    }
}
