//! `[server]` and `[server.tls]`: where the gateway listens, and what protects it there.
//!
//! Owns the rule that nothing travels in the clear beyond this machine. Invariant: without an error
//! reported, TLS is configured, or every address is a loopback address and the operator said
//! `insecure_http = true`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::Uri;
use toml::de::DeValue;

use super::{
    context::Span,
    environment::Environment,
    expand::Text,
    problem::Problem,
    table::{Table, string, strings},
    value,
};
use crate::tls;

/// What `[server]` says.
pub(super) struct Server {
    pub(super) addresses: Vec<(SocketAddr, Span)>,
    pub(super) public_url: Option<Uri>,
    pub(super) allowed_origins: Vec<String>,
    pub(super) allowed_hosts: Vec<String>,
    pub(super) drain_timeout: Duration,
    pub(super) tls: tls::Config,
}

impl Server {
    /// The first address that others can reach.
    pub(super) fn exposed(&self) -> Option<&(SocketAddr, Span)> {
        self.addresses
            .iter()
            .find(|(address, _)| !is_loopback(address))
    }
}

/// True when only this machine can reach the address.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Reads the table; what is wrong with it is reported.
pub(super) fn read(root: &mut Table<'_>) -> Server {
    let Some(mut table) = root.table("server") else {
        if !root.has("server") {
            root.missing(
                "server",
                "write `[server]` and below it listen = \"127.0.0.1:8443\"",
            );
        }
        return fallback();
    };
    let addresses = addresses(&mut table);
    let public_url = public_url(&mut table);
    let allowed_origins = table.strings("allowed_origins").unwrap_or_default();
    let allowed_origins = each(&table, "allowed_origins", &allowed_origins, value::origin);
    let hosts = table.strings("allowed_hosts").unwrap_or_default();
    let hosts = each(&table, "allowed_hosts", &hosts, value::host);
    let drain_timeout = table.duration("drain_timeout", DRAIN, Duration::ZERO..=HOUR);
    let insecure = table.flag("insecure_http", false);
    let hosts = Hosts {
        hosts,
        public_url: public_url.as_ref(),
        addresses: &addresses,
    };
    let tls = protection(&mut table, insecure, &hosts);
    let allowed_hosts = hosts.allowed();
    hosts.warn_if_unreachable(&table);
    table.finish();
    Server {
        addresses,
        public_url,
        allowed_origins,
        allowed_hosts,
        drain_timeout,
        tls,
    }
}

fn fallback() -> Server {
    Server {
        addresses: Vec::new(),
        public_url: None,
        allowed_origins: Vec::new(),
        allowed_hosts: Vec::new(),
        drain_timeout: DRAIN,
        tls: tls::Config {
            source: tls::Source::None,
            keylog: false,
        },
    }
}

fn addresses(table: &mut Table<'_>) -> Vec<(SocketAddr, Span)> {
    let Some(node) = table.take("listen") else {
        table.missing("listen", "write one such as listen = \"127.0.0.1:8443\"");
        return Vec::new();
    };
    let name = table.name("listen");
    let texts = match node.get_ref() {
        DeValue::Array(_) => strings(table.cx, &name, node).unwrap_or_default(),
        _ => string(table.cx, &name, node).into_iter().collect(),
    };
    if node
        .get_ref()
        .as_array()
        .is_some_and(|list| list.is_empty())
    {
        table.cx.report(
            Problem::error("`server.listen` is empty")
                .at(&node.span())
                .help("write one such as listen = \"127.0.0.1:8443\""),
        );
    }
    let mut addresses: Vec<(SocketAddr, Span)> = Vec::new();
    for text in texts {
        let address = match value::address(&text.value) {
            Ok(address) => address,
            Err(refusal) => {
                table.refused("listen", &text.span, refusal);
                continue;
            }
        };
        let twin = addresses
            .iter()
            .find(|(other, _)| *other == address && address.port() != 0);
        if let Some((_, first)) = twin {
            table.cx.report(
                Problem::error("this address is listed twice")
                    .at(&text.span)
                    .also(first, "first here")
                    .help("remove one of the two"),
            );
        }
        addresses.push((address, text.span));
    }
    addresses
}

fn public_url(table: &mut Table<'_>) -> Option<Uri> {
    table.parsed("public_url", value::public_url)
}

fn each<T>(
    table: &Table<'_>,
    key: &str,
    texts: &[Text],
    parse: impl Fn(&str) -> Result<T, value::Refusal>,
) -> Vec<T> {
    let mut values = Vec::new();
    for text in texts {
        match parse(&text.value) {
            Ok(value) => values.push(value),
            Err(refusal) => table.refused(key, &text.span, refusal),
        }
    }
    values
}

/// What decides which `Host` is ours.
struct Hosts<'a> {
    hosts: Vec<String>,
    public_url: Option<&'a Uri>,
    addresses: &'a [(SocketAddr, Span)],
}

impl Hosts<'_> {
    /// The list of the file, or else the contract's default.
    fn allowed(&self) -> Vec<String> {
        if self.hosts.is_empty() {
            self.known()
        } else {
            self.hosts.clone()
        }
    }

    fn known(&self) -> Vec<String> {
        default_hosts(
            self.public_url,
            self.addresses.iter().map(|(address, _)| *address),
        )
    }

    /// What a certificate of our own is for: every name under which clients may come.
    fn certified(&self) -> Vec<String> {
        let mut names = self.known();
        for ip in [Ipv4Addr::LOCALHOST.to_string(), "[::1]".to_owned()] {
            push_new(&mut names, ip);
        }
        for host in &self.hosts {
            push_new(&mut names, host.clone());
        }
        names.retain(|name| name != "0.0.0.0" && name != "[::]");
        let bare = |name: String| name.trim_matches(['[', ']']).to_owned();
        names.into_iter().map(bare).collect()
    }

    fn warn_if_unreachable(&self, table: &Table<'_>) {
        let wildcard = self
            .addresses
            .iter()
            .find(|(address, _)| address.ip().is_unspecified());
        if let Some((_, span)) = wildcard
            && self.public_url.is_none()
            && self.hosts.is_empty()
        {
            table.cx.report(
                Problem::warning("clients on other machines will be refused by their `Host` header")
                    .at(span)
                    .help("name the host they use: public_url = \"https://mcp.example.com\" or allowed_hosts"),
            );
        }
    }
}

/// The contract's default for `allowed_hosts`: the public URL's host, the listen addresses,
/// localhost.
pub(super) fn default_hosts(
    public_url: Option<&Uri>,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Vec<String> {
    let mut hosts = Vec::new();
    if let Some(host) = public_url.and_then(Uri::host) {
        push_new(&mut hosts, host.to_ascii_lowercase());
    }
    for address in addresses {
        push_new(&mut hosts, value::show_ip(address.ip()));
    }
    push_new(&mut hosts, "localhost".to_owned());
    hosts
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Decides what stands between TCP and HTTP, and refuses what would expose traffic.
fn protection(server: &mut Table<'_>, insecure: bool, hosts: &Hosts<'_>) -> tls::Config {
    let none = tls::Config {
        source: tls::Source::None,
        keylog: false,
    };
    let exposed = hosts
        .addresses
        .iter()
        .find(|(address, _)| !is_loopback(address));
    let switch = server.place("insecure_http");
    let Some(mut table) = server.table("tls") else {
        if server.has("tls") || server.is_broken_flag("insecure_http") {
            return none;
        }
        if insecure {
            refuse_exposure(server, exposed, &switch);
        } else {
            no_choice(server, exposed.is_some());
        }
        return none;
    };
    if insecure {
        server.cx.report(
            Problem::error("`server.insecure_http` and `[server.tls]` exclude each other")
                .at(&switch)
                .also(&table.span, "TLS is set here")
                .help("remove `insecure_http`"),
        );
    }
    let source = source(&mut table, hosts);
    let keylog = table.flag("keylog", false);
    if keylog {
        server.cx.report(
            Problem::warning(
                "`server.tls.keylog` lets whoever reads SSLKEYLOGFILE decrypt all traffic",
            )
            .at(&table.place("keylog"))
            .help("set it to false outside of debugging"),
        );
    }
    client_auth(&mut table);
    table.finish();
    tls::Config { source, keylog }
}

fn refuse_exposure(server: &Table<'_>, exposed: Option<&(SocketAddr, Span)>, switch: &Span) {
    if let Some((_, span)) = exposed {
        server.cx.report(
            Problem::error("plain HTTP is accepted on loopback addresses only")
                .at(span)
                .also(switch, "plain HTTP is chosen here")
                .help("listen on 127.0.0.1, or remove `insecure_http` and write `[server.tls]`"),
        );
    }
}

fn no_choice(server: &Table<'_>, exposed: bool) {
    let tls = "write `[server.tls]` with `cert` and `key`, or with `self_signed = true`";
    let help = if exposed {
        tls.to_owned()
    } else {
        format!("{tls}; or `insecure_http = true` for plain HTTP on this machine only")
    };
    server.cx.report(
        Problem::error("nothing says how connections are protected")
            .at(&server.span)
            .help(help)
            .distant(),
    );
}

fn source(table: &mut Table<'_>, hosts: &Hosts<'_>) -> tls::Source {
    let cert = table.string("cert");
    let key = table.string("key");
    let self_signed = table.flag("self_signed", false);
    let either = table.has("cert") || table.has("key");
    if self_signed && either {
        let other = if table.has("cert") { "cert" } else { "key" };
        table.cx.report(
            Problem::error("`self_signed` and `cert`/`key` exclude each other")
                .at(&table.place("self_signed"))
                .also(&table.place(other), "files are named here")
                .help("remove one of the two"),
        );
        return tls::Source::None;
    }
    if self_signed {
        return tls::Source::SelfSigned {
            dir: table.cx.base.to_path_buf(),
            names: hosts.certified(),
        };
    }
    for (key, other) in [("cert", "key"), ("key", "cert")] {
        if table.has(key) && !table.has(other) {
            let name = table.name(other);
            table.cx.report(
                Problem::error(format!("`{name}` is missing"))
                    .at(&table.place(key))
                    .help("a certificate and its private key go together")
                    .distant(),
            );
        }
    }
    if !either && !table.has("acme") && !table.has("self_signed") {
        table.cx.report(
            Problem::error("`[server.tls]` names no certificate")
                .at(&table.span)
                .help("write `cert` and `key`, or `self_signed = true`")
                .distant(),
        );
    } else if !either && table.has("self_signed") {
        table.cx.report(
            Problem::error("`[server.tls]` names no certificate")
                .at(&table.place("self_signed"))
                .help("write `cert` and `key`, or `self_signed = true`"),
        );
    }
    match (cert, key) {
        (Some(cert), Some(key)) => files(table, &cert, &key),
        _ => tls::Source::None,
    }
}

fn files(table: &Table<'_>, cert: &Text, key: &Text) -> tls::Source {
    let cx = table.cx;
    let (cert_path, key_path) = (cx.path(&cert.value), cx.path(&key.value));
    let cert_pem = pem(table, "cert", cert, &cert_path);
    let key_pem = pem(table, "key", key, &key_path);
    if key_pem.is_some() && cx.world.exposed(&key_path) {
        let shown = cx.path(key.shown());
        cx.report(
            Problem::warning("other users can read the private key")
                .at(&key.span)
                .help(format!("run `chmod 600 {}`", shown.display())),
        );
    }
    if let (Some(cert_pem), Some(key_pem)) = (cert_pem, key_pem)
        && let Err(flaw) = super::pem::check(&cert_pem, &key_pem)
    {
        let span = if flaw.in_key() { &key.span } else { &cert.span };
        cx.report(
            Problem::error(flaw.to_string())
                .at(span)
                .help(flaw.advice()),
        );
    }
    tls::Source::Files {
        cert: cert_path,
        key: key_path,
    }
}

fn pem(table: &Table<'_>, key: &str, text: &Text, path: &PathBuf) -> Option<Vec<u8>> {
    let cx = table.cx;
    cx.watch(path.clone());
    let world: &dyn Environment = cx.world;
    match world.read(path) {
        Ok(content) => Some(content),
        Err(error) => {
            let shown = cx.path(text.shown());
            cx.report(
                Problem::error(format!("can't read `{}`: {error}", shown.display()))
                    .at(&text.span)
                    .help(format!("`{}` is relative to this file", table.name(key))),
            );
            None
        }
    }
}

/// Client certificates have no reader yet; the word for "none" is honoured, every other refused.
fn client_auth(table: &mut Table<'_>) {
    let Some(text) = table.string("client_auth") else {
        return;
    };
    let problem = match text.value.as_str() {
        "off" => return,
        "optional" | "required" => {
            Problem::error("client certificates are not available in this version")
                .help("write client_auth = \"off\" or remove it")
        }
        _ => Problem::error("`server.tls.client_auth` is none of its values")
            .help("write client_auth = \"off\""),
    };
    table.cx.report(problem.at(&text.span));
}

const DRAIN: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
