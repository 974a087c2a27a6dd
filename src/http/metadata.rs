//! What a client has to know in order to get a token (RFC 9728), and where it is told so.
//!
//! Owns the documents below `/.well-known/` and the `WWW-Authenticate` header. It must never take a
//! name from a request: all URLs are made of the configuration. Invariant: every challenge names
//! the document of the very resource that was asked for.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL,
    },
};
use serde_json::json;

use crate::{
    auth::AuthError,
    http::{
        body::Body,
        origin,
        reject::{self, Rejection},
        route::{Endpoint, Route},
    },
    policy,
    principal::Principal,
};

/// The documents and challenges of one configuration.
#[derive(Debug, Default)]
pub struct Metadata {
    /// By the path behind the well-known one, without a slash at its end: `/m/mcp`; the root's is
    /// empty. None without an issuer.
    resources: HashMap<String, Resource>,
    /// The path of the public URL.
    prefix: String,
    /// Issuers that clients can ask for roles, because they are the scopes of their tokens.
    scoped: HashSet<String>,
}

#[derive(Debug)]
struct Resource {
    document: Bytes,
    /// `resource_metadata="…"`
    link: String,
    /// `scope="…"`, with a comma before it, or nothing.
    scope: String,
}

impl Metadata {
    /// `base` is our own URL without a slash at its end, `backends` are those that there are.
    pub fn new<'a>(
        base: &str,
        issuers: impl Iterator<Item = (&'a str, bool)>,
        policy: &policy::Config,
        backends: impl Iterator<Item = &'a str>,
    ) -> Self {
        let issuers: Vec<(&str, bool)> = issuers.collect();
        let scoped = issuers.iter().filter(|(_, scoped)| *scoped);
        let scoped: HashSet<String> = scoped.map(|(issuer, _)| (*issuer).to_owned()).collect();
        // A document is for all issuers: what one of them doesn't know can't be asked of it.
        let advertises = scoped.len() == issuers.len();
        let issuers: Vec<&str> = issuers.into_iter().map(|(issuer, _)| issuer).collect();
        let prefix = prefix_of(base).to_owned();
        if issuers.is_empty() {
            return Self {
                prefix,
                ..Self::default()
            };
        }
        let resource = |path: &str, scopes: &[&str]| {
            let url = format!("{base}{path}");
            let origin = base.strip_suffix(&prefix).unwrap_or(base);
            let mut document = json!({
                "resource": url,
                "authorization_servers": issuers,
                "bearer_methods_supported": ["header"],
            });
            if !scopes.is_empty() {
                document["scopes_supported"] = json!(scopes);
            }
            Resource {
                document: document.to_string().into(),
                link: format!("resource_metadata=\"{origin}{WELL_KNOWN}{prefix}{path}\""),
                scope: match scopes {
                    [] => String::new(),
                    scopes => format!(", scope=\"{}\"", scopes.join(" ")),
                },
            }
        };
        let mut resources = HashMap::from([(String::new(), resource("", &[]))]);
        for backend in backends {
            let mut scopes = policy.scopes(backend);
            if !advertises {
                scopes.clear();
            }
            for endpoint in ["mcp", "sse"] {
                let path = format!("/{backend}/{endpoint}");
                resources.insert(path.clone(), resource(&path, &scopes));
            }
        }
        Self {
            resources,
            prefix,
            scoped,
        }
    }

    /// True when a principal's issuer can be asked for a token with other roles.
    pub(crate) fn can_step_up(&self, principal: &Principal) -> bool {
        self.scoped.contains(&**principal.issuer())
    }

    /// The `WWW-Authenticate` value of a 401.
    ///
    /// `error="invalid_token"` stands in it only when a key or token was sent.
    pub(crate) fn challenge(&self, route: Route<'_>, error: AuthError) -> HeaderValue {
        let error = match error.is_about_a_token() {
            true => ", error=\"invalid_token\"",
            false => "",
        };
        let more = match self.resource(route) {
            None => String::new(),
            Some(Resource { link, scope, .. }) => format!(", {link}{scope}"),
        };
        value(&format!("{REALM}{error}{more}"))
    }

    /// The `WWW-Authenticate` value of a 403 for a token: what it has, and what it lacks beyond.
    pub(crate) fn step_up(
        &self,
        route: Route<'_>,
        principal: &Principal,
        lacks: &[&str],
    ) -> HeaderValue {
        let mut scopes: Vec<&str> = principal.roles().iter().map(String::as_str).collect();
        scopes.extend(lacks);
        if !self.can_step_up(principal) {
            scopes.clear();
        }
        let mut seen = Vec::new();
        scopes.retain(|scope| {
            !seen.contains(scope) && {
                seen.push(*scope);
                true
            }
        });
        let link = self.resource(route).map_or("", |resource| &resource.link);
        let scope = match &*scopes {
            [] => String::new(),
            scopes => format!(", scope=\"{}\"", scopes.join(" ")),
        };
        value(&format!(
            "{REALM}, error=\"insufficient_scope\"{scope}, {link}"
        ))
    }

    /// What a path belongs to; the message URL of HTTP+SSE is part of the stream's.
    fn resource(&self, route: Route<'_>) -> Option<&Resource> {
        let of_backend = match route {
            Route::Backend(backend, Endpoint::Mcp) => {
                self.resources.get(&format!("/{backend}/mcp"))
            }
            Route::Backend(backend, Endpoint::Sse | Endpoint::Messages) => {
                self.resources.get(&format!("/{backend}/sse"))
            }
            Route::Health | Route::WellKnown | Route::Unknown => None,
        };
        of_backend.or_else(|| self.resources.get(""))
    }

    /// Answers a request for a document. Any page may read one.
    pub(crate) fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Rejection> {
        let asked = path.strip_prefix(WELL_KNOWN).ok_or(Rejection::NotFound)?;
        let asked = asked.strip_suffix('/').unwrap_or(asked);
        // What stands in front may have taken the prefix away, or not.
        let inner = asked.strip_prefix(&self.prefix);
        let resource = inner
            .and_then(|path| self.resources.get(path))
            .or_else(|| self.resources.get(asked))
            .ok_or(Rejection::NotFound)?;
        match *method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Ok(preflight(headers)),
            _ => return Err(Rejection::Method("GET, HEAD, OPTIONS")),
        }
        let mut response = reject::json(StatusCode::OK, resource.document.clone());
        let cache = HeaderValue::from_static("max-age=300");
        response.headers_mut().insert(CACHE_CONTROL, cache);
        Ok(response)
    }
}

/// Lets any page read a document, and that there is none.
pub(crate) fn open(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, OPTIONS");
    out.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if headers.contains_key(ACCESS_CONTROL_REQUEST_HEADERS) {
        out.insert(ACCESS_CONTROL_ALLOW_HEADERS, origin::granted(headers));
    }
    response
}

/// The path of a URL without a slash at its end.
fn prefix_of(base: &str) -> &str {
    let authority = base.find("://").map_or(0, |colon| colon + 3);
    let path = base[authority..].find('/');
    path.map_or("", |slash| &base[authority + slash..])
}

/// All parts are printable ASCII: the configuration takes nothing else.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(REALM))
}

const REALM: &str = "Bearer realm=\"gatehouse\"";
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(base: &str) -> Metadata {
        let issuers = [("https://login.example", true)].into_iter();
        Metadata::new(base, issuers, &policy::Config::default(), ["m"].into_iter())
    }

    fn document(metadata: &Metadata, path: &str) -> Option<String> {
        let resource = metadata
            .answer(&Method::GET, path, &HeaderMap::new())
            .is_ok();
        let asked = path.strip_prefix(WELL_KNOWN)?.trim_end_matches('/');
        let inner = asked.strip_prefix(&metadata.prefix).unwrap_or(asked);
        let document = metadata.resources.get(inner).filter(|_| resource)?;
        let document: serde_json::Value = serde_json::from_slice(&document.document).unwrap();
        Some(document["resource"].as_str().unwrap().to_owned())
    }

    #[test]
    fn the_path_of_a_public_url_is_part_of_every_name() {
        let metadata = metadata("https://h.example/gate");
        let at = |path: &str| document(&metadata, &format!("{WELL_KNOWN}{path}"));
        let whole = "https://h.example/gate/m/mcp";
        assert_eq!(at("/gate/m/mcp").as_deref(), Some(whole));
        assert_eq!(at("/m/mcp/").as_deref(), Some(whole));
        assert_eq!(at("/gate").as_deref(), Some("https://h.example/gate"));
        assert_eq!(at("/gate/x/mcp"), None);
        let challenge =
            metadata.challenge(Route::Backend("m", Endpoint::Messages), AuthError::Invalid);
        assert_eq!(
            challenge,
            "Bearer realm=\"gatehouse\", error=\"invalid_token\", \
             resource_metadata=\"https://h.example/.well-known/oauth-protected-resource/gate/m/sse\""
        );
    }

    #[test]
    fn who_showed_no_token_is_not_told_that_it_is_bad() {
        let metadata = metadata("https://h.example");
        let says = |error| {
            let challenge = metadata.challenge(Route::Backend("m", Endpoint::Mcp), error);
            challenge.to_str().unwrap().contains("error=")
        };
        for none in [
            AuthError::Missing,
            AuthError::Scheme,
            AuthError::Nameless,
            AuthError::CertificateExpired,
        ] {
            assert!(!says(none), "{none}");
        }
        assert!(says(AuthError::Malformed) && says(AuthError::Expired));
    }

    #[test]
    fn without_an_issuer_there_is_nothing_to_find() {
        let none = Metadata::new(
            "https://h.example",
            std::iter::empty(),
            &policy::Config::default(),
            ["m"].into_iter(),
        );
        assert_eq!(document(&none, WELL_KNOWN), None);
        let challenge = none.challenge(Route::Unknown, AuthError::Missing);
        assert_eq!(challenge, REALM);
    }
}
