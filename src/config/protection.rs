//! `[server.tls]` and `insecure_http`: what stands between TCP and HTTP.
//!
//! Owns the rule that nothing travels in the clear beyond this machine. Invariant: without an error
//! reported, TLS is configured, or every address is a loopback address and the operator said
//! `insecure_http = true`.

use std::{net::SocketAddr, path::Path};

use super::{
    Strictness, clients, context::Span, expand::Text, pem, problem::Problem, server::Hosts,
    table::Table,
};
use crate::tls;

/// Decides what stands between TCP and HTTP, and refuses what would expose traffic.
pub(super) fn protection(server: &mut Table<'_>, insecure: bool, hosts: &Hosts<'_>) -> tls::Config {
    let none = tls::Config {
        source: tls::Source::None,
        keylog: false,
        clients: None,
    };
    let exposed = hosts.exposed();
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
    let clients = clients::read(&mut table);
    table.finish();
    tls::Config {
        source,
        keylog,
        clients,
    }
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
        writable(table);
        private(table);
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

/// A certificate that is made at start, or made anew before it ends, needs a place. `serve` says so
/// itself when it comes to that.
fn writable(table: &Table<'_>) {
    let cx = table.cx;
    if cx.strictness != Strictness::Check {
        return;
    }
    if let Some(error) = cx.world.unwritable(cx.base) {
        let folder = cx.base.display();
        cx.report(
            Problem::error(format!(
                "the certificate can't be made in `{folder}`: {error}"
            ))
            .at(&table.place("self_signed"))
            .help("let the gateway's user write there, or write `cert` and `key`"),
        );
    }
}

/// A pair that was made before is used again, unless others know its key.
fn private(table: &Table<'_>) {
    let cx = table.cx;
    let [cert, key] = tls::self_signed_paths(cx.base);
    if cx.world.exists(&cert) && cx.world.exposed(&key) {
        let help = format!("run `chmod 600 {}`", key.display());
        cx.report(
            Problem::error("other users can read the private key of the self-signed certificate")
                .at(&table.place("self_signed"))
                .help(help),
        );
    }
}

fn files(table: &Table<'_>, cert: &Text, key: &Text) -> tls::Source {
    let cx = table.cx;
    let (cert_path, key_path) = (cx.path(&cert.value), cx.path(&key.value));
    let cert_pem = content(table, "cert", cert, &cert_path);
    let key_pem = content(table, "key", key, &key_path);
    if key_pem.is_some() && cx.world.exposed(&key_path) {
        let shown = cx.path(key.shown());
        cx.report(
            Problem::error("other users can read the private key")
                .at(&key.span)
                .help(format!("run `chmod 600 {}`", shown.display())),
        );
    }
    if let (Some(cert_pem), Some(key_pem)) = (cert_pem, key_pem)
        && let Err(flaw) = pem::check(&cert_pem, &key_pem)
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

fn content(table: &Table<'_>, key: &str, text: &Text, path: &Path) -> Option<Vec<u8>> {
    let cx = table.cx;
    cx.watch(path.to_path_buf());
    match cx.world.read(path) {
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
