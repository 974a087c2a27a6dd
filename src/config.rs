//! `proxy.toml`: read strictly, judged as a whole, turned into each module's own configuration.
//!
//! Owns the file's syntax, its defaults and the rules between its parts. It must never know what
//! the modules do with what it gives them. Invariant: a [`Config`] exists only when the file had no
//! error; every problem is found in one pass and shown with its place.

mod access;
mod audit;
mod backends;
mod clients;
mod context;
mod environment;
mod expand;
mod judge;
mod jwt;
mod known;
mod limits;
mod mtls;
mod packages;
mod pem;
mod pin;
mod problem;
mod protection;
mod quotas;
mod roles;
mod rules;
mod sandbox;
mod secrets;
mod server;
mod syntax;
mod table;
mod value;
mod word;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use toml::de::DeTable;

use crate::{auth, backend, limit, listener, policy, tls};

pub use access::{ANONYMOUS, KEY_HELP, is_key_name};
pub use backends::{BACKEND_HELP, is_backend_name, isolations, parse_isolation, show_isolation};
pub use environment::{Environment, MAX_FILE, Nowhere, Process};
pub use expand::{is_env_name, is_variable_name};
pub use problem::{Problem, Problems, Severity};
pub use roles::{ROLE_HELP, is_role_name};
pub use sandbox::show_profile;

/// A complete configuration, every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to listen.
    pub listener: listener::Config,
    /// What protects connections.
    pub tls: tls::Config,
    /// Who may come in.
    pub auth: auth::Config,
    /// What each role grants. With anonymous access a role `anonymous` is always there.
    pub policy: policy::Config,
    /// Limits and names of the HTTP layer.
    pub http: HttpConfig,
    /// Limits of sessions.
    pub sessions: SessionConfig,
    /// How often.
    pub limits: limit::Config,
    /// What is recorded, if anything is.
    pub audit: Option<crate::audit::Config>,
    /// How long calls in flight may take to finish after a stop.
    pub drain_timeout: Duration,
    /// The servers behind the gateway, in the order of the file.
    pub backends: Vec<BackendEntry>,
    /// Absolute paths whose change is a reason to reload: the file itself, certificate, key, and
    /// each file that a value came from.
    pub watched: Vec<PathBuf>,
    /// Absolute paths of the gateway's own files, which no sandboxed child may reach.
    pub own_files: Vec<PathBuf>,
    /// The folder of packages that were installed ahead; empty where there can be none.
    pub packages: PathBuf,
    /// What the operator should hear although nothing is refused.
    pub warnings: Problems,
}

/// Limits and names of the HTTP layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Under which address clients know the gateway, without a slash at its end.
    pub public_url: Option<Uri>,
    /// Browser origins as browsers send them: lower case, no default port, no path.
    pub allowed_origins: Vec<String>,
    /// Hosts that a `Host` header may name, whatever its port: lower case, IPv6 in brackets.
    pub allowed_hosts: Vec<String>,
    /// It may also name the address that the client connected to: nobody wrote the list.
    pub own_addresses: bool,
    /// One client message, bytes.
    pub max_body: usize,
    /// From the first byte of a request to the end of its header section.
    pub header_timeout: Duration,
}

/// Limits of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionConfig {
    /// Sessions at once.
    pub max_sessions: usize,
    /// Sessions at once of one principal.
    pub max_sessions_per_principal: usize,
    /// A session that nobody uses ends after this.
    pub idle_timeout: Duration,
    /// A broken HTTP+SSE stream may come back this long.
    pub resume_grace: Duration,
    /// Kept per session for `Last-Event-ID`, bytes; zero keeps nothing.
    pub replay_buffer: usize,
    /// One line from a child, bytes; at most 2 GiB.
    pub max_message: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            max_sessions_per_principal: 100,
            idle_timeout: Duration::from_secs(30 * 60),
            resume_grace: Duration::from_secs(10),
            replay_buffer: 1 << 20,
            max_message: 64 << 20,
        }
    }
}

/// `[backends.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendEntry {
    /// How it is run.
    pub config: backend::Config,
    /// What passes to and from it.
    pub filter: policy::filter::Config,
    /// How much one principal may ask of it.
    pub limits: limit::backend::Config,
}

/// Who asks, and so how much what is missing outside the file matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// `check`: a command that isn't there is an error.
    Check,
    /// `serve`: it is a warning, because it may be there when it is needed.
    Serve,
}

impl Config {
    /// All files whose change is a reason to reload: those of [`Config::watched`], and the records of
    /// what is installed for backends, which may not be there yet.
    #[must_use]
    pub fn looked_at(&self) -> Vec<PathBuf> {
        let mut files = self.watched.clone();
        files.extend(packages::records(&self.packages, &self.backends));
        files
    }

    /// Reads and judges a file.
    ///
    /// # Errors
    /// Every problem of the file, warnings included, if any of them is an error.
    pub fn load(path: &Path, strictness: Strictness) -> Result<Self, Problems> {
        Self::load_in(path, strictness, &Process)
    }

    /// [`Config::load`] in a world of the caller's.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_in(
        path: &Path,
        strictness: Strictness,
        world: &dyn Environment,
    ) -> Result<Self, Problems> {
        let name = path.display().to_string();
        let whole = |message: String, help: &str| {
            Problems::whole(name.clone(), Problem::error(message).help(help))
        };
        let full = std::path::absolute(path)
            .map_err(|error| whole(format!("not a path: {error}"), "name a file"))?;
        let bytes = world.read(&full).map_err(|error| {
            let help = "name the file with `--config FILE`; `gatehouse demo` needs none";
            whole(format!("can't read the configuration: {error}"), help)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            whole(
                format!("line {line} is not UTF-8 text"),
                "save the file as UTF-8",
            )
        })?;
        let source = Source {
            name: &name,
            text: &text,
            base: full.parent().unwrap_or(&full),
        };
        let mut config = Self::parse(&source, strictness, world)?;
        config.watched.insert(0, full);
        Ok(config)
    }

    /// Judges a text.
    ///
    /// # Errors
    /// Every problem of the text, warnings included, if any of them is an error.
    pub fn parse(
        source: &Source<'_>,
        strictness: Strictness,
        world: &dyn Environment,
    ) -> Result<Self, Problems> {
        let text = source.text;
        let (document, syntax) = DeTable::parse_recoverable(text);
        let cx = context::Context::new(text, source.base, world, strictness);
        let draft = read(&cx, document.get_ref());
        let own_files = draft.own_files(source, cx.watched());
        sandbox::refuse_covered(&cx, cx.grants(), &own_files);
        let (found, mut masked, watched) = cx.into_parts();
        masked.extend(syntax::masks(text, &syntax));
        let list = syntax::merge(text, document.get_ref(), syntax, found);
        let problems = Problems::new(source.name.to_owned(), text, &masked, list);
        if problems.errors() > 0 {
            return Err(problems.naming(watched));
        }
        Ok(draft.complete(watched, own_files, problems))
    }

    /// What `wrap` and `demo` run: no file, all of every backend granted to whoever may come in.
    ///
    /// # Errors
    /// An address that others can reach without TLS, or without a key.
    pub fn without_file(parts: Parts) -> Result<Self, Exposed> {
        let reachable = parts.addresses.iter().find(|a| !server::is_loopback(a));
        if let Some(address) = reachable {
            if parts.tls.source == tls::Source::None {
                return Err(Exposed::Plain(*address));
            }
            if parts.auth.anonymous {
                return Err(Exposed::Anonymous(*address));
            }
        }
        let mut roles = std::collections::BTreeMap::new();
        let named = parts
            .auth
            .keys
            .iter()
            .flat_map(|key| key.roles.iter().cloned());
        let anonymous = parts.auth.anonymous.then(|| ANONYMOUS.to_owned());
        for role in named.chain(anonymous) {
            roles.insert(role, roles::everything());
        }
        let limits = limits::Limits::default();
        let sessions = limits.sessions;
        Ok(Self {
            http: HttpConfig {
                public_url: None,
                allowed_origins: Vec::new(),
                allowed_hosts: server::default_hosts(None, parts.addresses.iter().copied()),
                own_addresses: true,
                max_body: limits.max_body,
                header_timeout: limits.header_timeout,
            },
            listener: listener_config(parts.addresses, &sessions),
            auth: parts.auth,
            policy: policy::Config { roles },
            sessions,
            limits: limits.rates,
            audit: None,
            drain_timeout: Duration::from_secs(30),
            backends: parts.backends,
            watched: Vec::new(),
            own_files: parts.tls.own_files(),
            packages: PathBuf::new(),
            tls: parts.tls,
            warnings: Problems::new(String::new(), "", &[], Vec::new()),
        })
    }
}

/// A text to judge.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// How messages call it.
    pub name: &'a str,
    /// The text itself.
    pub text: &'a str,
    /// The absolute folder that relative paths start from.
    pub base: &'a Path,
}

/// What a gateway without a file needs to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Where to listen.
    pub addresses: Vec<SocketAddr>,
    /// What protects connections.
    pub tls: tls::Config,
    /// Who may come in; the roles that keys hold grant everything.
    pub auth: auth::Config,
    /// The servers behind the gateway.
    pub backends: Vec<BackendEntry>,
}

/// Why a gateway without a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// No TLS where others can connect.
    #[error("plain HTTP is accepted on loopback addresses only, and {0} is not one")]
    Plain(SocketAddr),
    /// No key where others can connect.
    #[error("access without a key is accepted on loopback addresses only, and {0} is not one")]
    Anonymous(SocketAddr),
}

impl BackendEntry {
    /// A backend of which only name and argv are known; everything else as in an empty block.
    #[must_use]
    pub fn new(name: String, command: Vec<String>) -> Self {
        Self {
            config: backends::defaults(name, command),
            filter: policy::filter::Config::default(),
            limits: limit::backend::Config::default(),
        }
    }
}

/// Everything the tables say, before it is known whether it may be used.
struct Draft {
    server: server::Server,
    auth: auth::Config,
    policy: policy::Config,
    limits: limits::Limits,
    backends: Vec<BackendEntry>,
    audit: Option<crate::audit::Config>,
    packages: PathBuf,
}

fn read(cx: &context::Context<'_>, document: &DeTable<'_>) -> Draft {
    let mut root = table::Table::root(cx, document);
    let limits = limits::read(&mut root);
    let server = server::read(&mut root);
    let packages = packages::read(&mut root);
    let backends = backends::read(&mut root, &limits, &packages);
    let audit = audit::read(&mut root);
    let (auth, policy) = access::read(&mut root, &server, &backends.names);
    let mut backends = backends;
    let several = root.ways_to_authenticate() > 1;
    for entry in &mut backends.entries {
        let secrets = &mut entry.config.secrets;
        secrets.qualified = several && !secrets.values.is_empty();
    }
    root.finish();
    Draft {
        server,
        auth,
        policy,
        limits,
        backends: backends.entries,
        audit,
        packages,
    }
}

impl Draft {
    /// All that is the gateway's own: this file, what it names, and what is kept beside them.
    fn own_files(&self, source: &Source<'_>, watched: Vec<PathBuf>) -> Vec<PathBuf> {
        let mut files = watched;
        let name = Path::new(source.name).file_name();
        files.extend(name.map(|name| source.base.join(name)));
        files.push(source.base.join("gatehouse.lock"));
        files.extend(self.server.tls.own_files());
        files.extend(self.backends.iter().flat_map(|entry| {
            let secrets = &entry.config.secrets;
            secrets.folders().map(Path::to_owned)
        }));
        files.extend(self.audit.iter().flat_map(crate::audit::Config::own_files));
        files.sort();
        files.dedup();
        // Last: the first that a grant reaches is named, and that is one that everybody knows.
        files.extend(packages::records(&self.packages, &self.backends));
        files
    }

    fn complete(
        self,
        watched: Vec<PathBuf>,
        own_files: Vec<PathBuf>,
        warnings: Problems,
    ) -> Config {
        let Self {
            server,
            auth,
            policy,
            limits,
            backends,
            audit,
            packages,
        } = self;
        let addresses = server.addresses.iter().map(|(address, _)| *address);
        Config {
            listener: listener_config(addresses.collect(), &limits.sessions),
            tls: server.tls,
            auth,
            policy,
            http: HttpConfig {
                public_url: server.public_url,
                allowed_origins: server.allowed_origins,
                allowed_hosts: server.allowed_hosts,
                own_addresses: server.own_addresses,
                max_body: limits.max_body,
                header_timeout: limits.header_timeout,
            },
            sessions: limits.sessions,
            limits: limits.rates,
            audit,
            drain_timeout: server.drain_timeout,
            backends,
            watched,
            own_files,
            packages,
            warnings,
        }
    }
}

/// Connections follow from sessions: each may hold a stream and send beside it. One address may
/// take half of them, so that a reverse proxy can serve many while a stranger can't take all.
fn listener_config(addresses: Vec<SocketAddr>, sessions: &SessionConfig) -> listener::Config {
    let max_connections = sessions
        .max_sessions
        .saturating_mul(2)
        .saturating_add(SPARE);
    listener::Config {
        addresses,
        max_connections,
        max_per_address: max_connections / 2,
    }
}

/// Feeds arbitrary bytes to the parser and to the renderer; neither may panic or hang.
pub fn fuzz_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let source = Source {
        name: "fuzz.toml",
        text,
        base: Path::new("/"),
    };
    let problems = match Config::parse(&source, Strictness::Serve, &Nowhere) {
        Ok(config) => config.warnings,
        Err(problems) => problems,
    };
    let shown = problems.render(false);
    debug_assert!(problems.is_empty() || shown.contains("fuzz.toml"));
}

/// Connections beyond those of sessions: probes, log-ins, the last requests of ended ones.
const SPARE: usize = 1024;
