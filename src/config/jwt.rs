//! `[auth.jwt]`: identity providers, one table or a list of them.
//!
//! Owns the notation of issuers and of where their keys are. Invariant: without an error reported,
//! every address that will be asked is HTTPS or leads to this machine, and no two providers have
//! one issuer.

use std::path::PathBuf;

use http::Uri;
use toml::de::DeValue;

use super::{
    context::Span,
    expand::Text,
    problem::Problem,
    server::Server,
    table::{Table, string, strings},
    value::Refusal,
};
use crate::{
    auth::jwt::{Algorithm, Config, KeySet, Source, authorities, introspection, is_fetchable},
    secret::Secret,
};

/// Reads the providers of `[auth]`.
pub(super) fn read(auth: &mut Table<'_>, server: &Server, has_roles: bool) -> Vec<Config> {
    let Some(node) = auth.take("jwt") else {
        return Vec::new();
    };
    let tables = match node.get_ref() {
        DeValue::Array(_) => auth.tables("jwt"),
        _ => auth.table("jwt").into_iter().collect(),
    };
    let span = auth.place("jwt");
    let mut seen: Vec<(Config, Span)> = Vec::new();
    for mut table in tables {
        let provider = provider(&mut table, &seen);
        one_is_asked(&table, provider.as_ref(), &seen);
        table.finish();
        seen.extend(provider);
    }
    if !seen.is_empty() && !has_roles {
        auth.cx.report(
            Problem::warning("no role is defined: tokens let nobody do anything")
                .at(&span)
                .help("write `[roles.NAME]`; a token that names it in `scope` gets what it grants")
                .distant(),
        );
    }
    warn_of_names(auth, server, &span);
    seen.into_iter().map(|(config, _)| config).collect()
}

/// Nothing in a token that only its issuer can read says whose it is: of two issuers each would be shown
/// the other's tokens.
fn one_is_asked(table: &Table<'_>, own: Option<&(Config, Span)>, seen: &[(Config, Span)]) {
    let asked = |(config, _): &&(Config, Span)| config.introspection.is_some();
    let first = seen.iter().find(asked);
    if let (Some(_), Some((_, first))) = (own.filter(asked), first) {
        let name = table.name("introspection");
        table.cx.report(
            Problem::error(format!("`{name}` stands in a second provider"))
                .at(&table.place("introspection"))
                .also(first, "tokens that can't be read are this one's")
                .help("keep one: nothing tells whose token it is, and no issuer may see another's"),
        );
    }
}

/// Clients are told our URL, and ask for tokens that are for it.
fn warn_of_names(auth: &Table<'_>, server: &Server, span: &Span) {
    let first = server.addresses.first();
    let wild = first.filter(|(address, _)| address.ip().is_unspecified());
    if let Some((_, address)) = wild
        && server.public_url.is_none()
    {
        auth.cx.report(
            Problem::warning("clients can't be told where this resource is")
                .at(span)
                .also(address, "this is no address that they could use")
                .help("write public_url = \"https://mcp.example.com\" under `[server]`"),
        );
    }
}

fn provider(table: &mut Table<'_>, seen: &[(Config, Span)]) -> Option<(Config, Span)> {
    let issuer = issuer(table, seen);
    let config = Config {
        issuer: issuer
            .as_ref()
            .map_or_else(String::new, |i| i.value.clone()),
        audiences: audiences(table),
        keys: keys(table),
        algorithms: algorithms(table),
        principal_claim: claim(table, "principal_claim", "sub"),
        roles_claim: claim(table, "roles_claim", "scope"),
        ca: ca(table),
        introspection: introspection(table),
    };
    let needs_endpoint = config.keys != Source::Discovered;
    let endpoint = config.introspection.as_ref().map(|asked| &asked.endpoint);
    if needs_endpoint && endpoint.is_some_and(Option::is_none) {
        table.cx.report(
            Problem::error(format!(
                "`{}` names no endpoint",
                table.name("introspection")
            ))
            .at(&table.place("introspection"))
            .help("write endpoint = \"https://…\", or leave out `jwks` so that it is discovered"),
        );
    }
    issuer.map(|issuer| (config, issuer.span))
}

fn issuer(table: &mut Table<'_>, seen: &[(Config, Span)]) -> Option<Text> {
    let Some(text) = table.string("issuer") else {
        if !table.has("issuer") {
            let help = "write issuer = \"https://…\", exactly as `iss` stands in its tokens";
            table.missing("issuer", help);
        }
        return None;
    };
    if let Err(refusal) = url(&text.value) {
        table.refused("issuer", &text.span, refusal);
        return None;
    }
    if text.value.contains(['?', '#']) {
        let refusal = Refusal {
            message: "not an issuer: it has a query or a fragment".to_owned(),
            help: "write it exactly as `iss` stands in its tokens".to_owned(),
        };
        table.refused("issuer", &text.span, refusal);
        return None;
    }
    if let Some((_, first)) = seen.iter().find(|(other, _)| other.issuer == text.value) {
        table.cx.report(
            Problem::error("two providers have this issuer")
                .at(&text.span)
                .also(first, "first here")
                .help("write both audiences in one block: audience = [\"…\", \"…\"]"),
        );
    }
    Some(text)
}

/// An address that the gateway may ask.
fn url(text: &str) -> Result<Uri, Refusal> {
    let refuse = |message: &str| Refusal {
        message: message.to_owned(),
        help: "write an https URL; http is for this machine only (http://127.0.0.1:…)".to_owned(),
    };
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    let uri: Uri = text
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| refuse("not a URL"))?;
    if !is_fetchable(&uri) {
        return Err(refuse("not a URL that is asked"));
    }
    Ok(uri)
}

/// One audience, or a list.
fn audiences(table: &mut Table<'_>) -> Vec<String> {
    let Some(node) = table.take("audience") else {
        return Vec::new();
    };
    let name = table.name("audience");
    let texts = match node.get_ref() {
        DeValue::Array(_) => strings(table.cx, &name, node).unwrap_or_default(),
        _ => string(table.cx, &name, node).into_iter().collect(),
    };
    let empty = texts.iter().any(|text| text.value.is_empty());
    if empty
        || node
            .get_ref()
            .as_array()
            .is_some_and(|list| list.is_empty())
    {
        table.cx.report(
            Problem::error(format!("`{name}` is empty"))
                .at(&node.span())
                .help("write what stands in `aud`, or leave it out for this resource's own URL"),
        );
    }
    texts.into_iter().map(|text| text.value).collect()
}

fn keys(table: &mut Table<'_>) -> Source {
    let Some(text) = table.string("jwks") else {
        return Source::Discovered;
    };
    if text.value.contains("://") {
        return match url(&text.value) {
            Ok(uri) => Source::Url(uri),
            Err(refusal) => {
                table.refused("jwks", &text.span, refusal);
                Source::Discovered
            }
        };
    }
    let path = file(table, "jwks", &text, |content| {
        KeySet::parse(content)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    Source::File(path)
}

fn ca(table: &mut Table<'_>) -> Option<PathBuf> {
    let text = table.string("ca")?;
    let path = file(table, "ca", &text, |content| {
        authorities(content)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    Some(path)
}

/// A file that must be there and be good.
fn file(
    table: &Table<'_>,
    key: &str,
    text: &Text,
    judge: impl Fn(&[u8]) -> Result<(), String>,
) -> PathBuf {
    let cx = table.cx;
    let path = cx.path(&text.value);
    let shown = cx.path(text.shown());
    let problem = match cx.world.read(&path) {
        Ok(content) => match judge(&content) {
            Ok(()) => return path,
            Err(flaw) => Problem::error(format!("`{}` can't be used: {flaw}", shown.display())),
        },
        Err(error) => Problem::error(format!("can't read `{}`: {error}", shown.display())),
    };
    let help = format!("`{}` is relative to this file", table.name(key));
    cx.report(problem.at(&text.span).help(help));
    path
}

fn algorithms(table: &mut Table<'_>) -> Vec<Algorithm> {
    let default = || vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
    if !table.has("algorithms") {
        // From now on the key is known.
        table.take("algorithms");
        return default();
    }
    let known = Algorithm::ALL.map(Algorithm::as_str).join(", ");
    let texts = table.strings("algorithms").unwrap_or_default();
    let mut algorithms = Vec::new();
    for text in &texts {
        match Algorithm::named(&text.value) {
            Some(algorithm) => algorithms.push(algorithm),
            None => table.cx.report(
                Problem::error(format!(
                    "`{}` names none that is used",
                    table.name("algorithms")
                ))
                .at(&text.span)
                .help(format!(
                    "write some of {known}; secrets and `none` prove nothing here"
                )),
            ),
        }
    }
    if texts.is_empty() {
        table.cx.report(
            Problem::error(format!("`{}` allows none", table.name("algorithms")))
                .at(&table.place("algorithms"))
                .help(format!("write some of {known}")),
        );
    }
    algorithms
}

fn claim(table: &mut Table<'_>, key: &'static str, default: &str) -> String {
    let Some(text) = table.string(key) else {
        return default.to_owned();
    };
    if text.value.is_empty() {
        let name = table.name(key);
        table.cx.report(
            Problem::error(format!("`{name}` is empty"))
                .at(&text.span)
                .help(format!(
                    "write the claim's name, such as {key} = \"{default}\""
                )),
        );
    }
    text.value
}

fn introspection(auth: &mut Table<'_>) -> Option<introspection::Config> {
    let mut table = auth.table("introspection")?;
    let endpoint = table.parsed("endpoint", url);
    let client_id = table.string("client_id");
    let secret = table.string("client_secret");
    for key in ["client_id", "client_secret"] {
        if !table.has(key) {
            table.missing(
                key,
                "the provider tells only clients that it knows about tokens",
            );
        }
    }
    if let Some(text) = secret.as_ref().filter(|text| !text.outside) {
        table.cx.mask(text.span.clone());
        table.cx.report(
            Problem::warning("the secret stands in this file")
                .at(&text.span)
                .help("write client_secret = \"${file:PATH}\""),
        );
    }
    table.finish();
    Some(introspection::Config {
        endpoint,
        client_id: client_id?.value,
        client_secret: Secret::new(secret?.value),
    })
}
