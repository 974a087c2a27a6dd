//! `[server]`: where the gateway listens, and under which names.
//!
//! Owns the addresses, the default of `allowed_hosts`, and what is a loopback address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use http::Uri;
use toml::de::DeValue;

use super::{
    Strictness,
    context::Span,
    expand::Text,
    problem::Problem,
    protection::protection,
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
    pub(super) own_addresses: bool,
    pub(super) drain_timeout: Duration,
    pub(super) tls: tls::Config,
}

impl Server {
    /// The first address that others can reach.
    pub(super) fn exposed(&self) -> Option<&(SocketAddr, Span)> {
        first_exposed(&self.addresses)
    }
}

fn first_exposed(addresses: &[(SocketAddr, Span)]) -> Option<&(SocketAddr, Span)> {
    addresses.iter().find(|(address, _)| !is_loopback(address))
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
    bindable(&table, &addresses);
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
    let (allowed_hosts, own_addresses) = (hosts.allowed(), hosts.hosts.is_empty());
    hosts.warn_if_unreachable(&table);
    table.finish();
    Server {
        addresses,
        public_url,
        allowed_origins,
        allowed_hosts,
        own_addresses,
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
        own_addresses: true,
        drain_timeout: DRAIN,
        tls: tls::Config {
            source: tls::Source::None,
            keylog: false,
            clients: None,
        },
    }
}

/// Says which addresses can't be listened on at this moment. The gateway itself may be what listens
/// there, so this is no error.
fn bindable(table: &Table<'_>, addresses: &[(SocketAddr, Span)]) {
    let cx = table.cx;
    if cx.strictness != Strictness::Check {
        return;
    }
    let all: Vec<_> = addresses.iter().map(|(address, _)| *address).collect();
    for (address, span) in addresses {
        if let Some(error) = cx.world.unbindable(*address, &all) {
            cx.report(
                Problem::warning(error.to_string())
                    .at(span)
                    .help("if this is not the gateway itself, choose another address"),
            );
        }
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
        let whole = addresses
            .iter()
            .find(|(other, _)| covers(other, &address) || covers(&address, other));
        if let Some((_, first)) = whole {
            table.cx.report(
                Problem::error("one of these addresses is part of the other")
                    .at(&text.span)
                    .also(first, "the other one")
                    .help("keep the wider one, or the narrower ones"),
            );
        }
        addresses.push((address, text.span));
    }
    addresses
}

/// True when the first stands for all addresses of its kind, the second included.
fn covers(all: &SocketAddr, one: &SocketAddr) -> bool {
    let alike = all.is_ipv4() == one.is_ipv4() && all.port() == one.port();
    all.ip().is_unspecified() && !one.ip().is_unspecified() && alike && one.port() != 0
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
pub(super) struct Hosts<'a> {
    hosts: Vec<String>,
    public_url: Option<&'a Uri>,
    addresses: &'a [(SocketAddr, Span)],
}

impl Hosts<'_> {
    /// The first address that others can reach.
    pub(super) fn exposed(&self) -> Option<&(SocketAddr, Span)> {
        first_exposed(self.addresses)
    }

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
    pub(super) fn certified(&self) -> Vec<String> {
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

const DRAIN: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
