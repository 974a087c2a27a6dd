//! Which hosts we answer for, and which web pages may talk to us.
//!
//! Owns the defence against DNS rebinding and CORS. Invariant: a browser page gets in only from an
//! origin that was configured, or from our own.

use std::{collections::HashSet, net::SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
    },
};

use crate::http::{body::Body, reject::Rejection};

/// Hosts and origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    hosts: HashSet<String>,
    allowed: HashSet<String>,
    own: HashSet<String>,
    own_addresses: bool,
}

impl Origins {
    /// `hosts`: names with or without a port. `allowed`: browser origins that get CORS headers.
    /// `own`: origins of the gateway itself, such as its public URL's.
    #[must_use]
    pub fn new(hosts: &[String], allowed: &[String], own: &[String]) -> Self {
        let lower = |list: &[String]| list.iter().map(|item| item.to_ascii_lowercase()).collect();
        Self {
            hosts: lower(hosts),
            allowed: lower(allowed),
            own: lower(own),
            own_addresses: false,
        }
    }

    /// Requests may name the address that they came to. A literal address can't be rebound: whoever
    /// connected to it may name it.
    pub fn allow_own_addresses(&mut self) {
        self.own_addresses = true;
    }

    /// Refuses a host that isn't ours.
    ///
    /// # Errors
    /// [`Rejection::Misdirected`], or [`Rejection::BadRequest`] without a host or with two.
    pub(crate) fn check_host<B>(
        &self,
        request: &Request<B>,
        local: SocketAddr,
    ) -> Result<(), Rejection> {
        let mut headers = request.headers().get_all(HOST).iter();
        let header = headers.next();
        if headers.next().is_some() {
            return Err(Rejection::BadRequest("More than one Host"));
        }
        let header = header.map(|value| value.to_str().map_err(|_| Rejection::Misdirected));
        let header = header.transpose()?;
        let target = request.uri().authority().map(http::uri::Authority::as_str);
        let host = match (target, header) {
            (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
                return Err(Rejection::Misdirected);
            }
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => return Err(Rejection::BadRequest("No Host")),
        };
        let known = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.knows_host(&host.to_ascii_lowercase(), local),
            false => self.knows_host(host, local),
        };
        if known {
            Ok(())
        } else {
            Err(Rejection::Misdirected)
        }
    }

    /// The origin that CORS headers are for; `None` without one, or for our own.
    ///
    /// # Errors
    /// [`Rejection::Origin`].
    pub(crate) fn check_origin(
        &self,
        headers: &HeaderMap,
        local: SocketAddr,
    ) -> Result<Option<HeaderValue>, Rejection> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(value) = origins.next() else {
            return Ok(None);
        };
        if origins.next().is_some() {
            return Err(Rejection::Origin);
        }
        let text = value
            .to_str()
            .map_err(|_| Rejection::Origin)?
            .to_ascii_lowercase();
        if self.allowed.contains(&text) {
            return Ok(Some(value.clone()));
        }
        let own = self.own.contains(&text)
            || text.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && is_loopback_self(host, local)
            });
        if own {
            Ok(None)
        } else {
            Err(Rejection::Origin)
        }
    }

    fn knows_host(&self, host: &str, local: SocketAddr) -> bool {
        let name = without_port(host);
        self.hosts.contains(host)
            || self.hosts.contains(name)
            || (self.own_addresses && name.trim_matches(['[', ']']).parse() == Ok(local.ip()))
    }
}

/// A page of our own listener on loopback; nobody else can serve one from our port.
fn is_loopback_self(host: &str, local: SocketAddr) -> bool {
    let name = without_port(host);
    let port = host[name.len()..]
        .strip_prefix(':')
        .and_then(|port| port.parse().ok());
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        && local.ip().is_loopback()
        && port == Some(local.port())
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// True for a CORS preflight.
pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight of an allowed origin.
pub(crate) fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    out.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE"),
    );
    out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    out.insert(ACCESS_CONTROL_ALLOW_HEADERS, granted(headers));
    response
}

/// Of the headers that a page wants to send, those that we read.
pub(crate) fn granted(headers: &HeaderMap) -> HeaderValue {
    let asked = headers
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|value| value.to_str().ok());
    let granted: Vec<&str> = asked
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| is_ours(name) && HeaderName::from_bytes(name.as_bytes()).is_ok())
        .collect();
    HeaderValue::from_str(&granted.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// Lets a page of `origin` read a response.
pub(crate) fn allow(response: &mut Response<Body>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate, Retry-After"),
    );
}

fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("mcp-")
        || matches!(
            name.as_str(),
            "authorization" | "x-api-key" | "content-type" | "accept" | "last-event-id"
        )
}

#[cfg(test)]
mod tests {
    use super::Origins;
    use http::{HeaderMap, HeaderValue, Request, header::ORIGIN};

    fn origins() -> Origins {
        let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let mut origins = Origins::new(
            &text(&["mcp.example.com", "localhost"]),
            &text(&["https://app.example.com"]),
            &text(&["https://mcp.example.com"]),
        );
        origins.allow_own_addresses();
        origins
    }

    fn host(host: &str) -> bool {
        let request = Request::builder()
            .uri("/a/mcp")
            .header("host", host)
            .body(())
            .unwrap();
        origins()
            .check_host(&request, "127.0.0.1:8443".parse().unwrap())
            .is_ok()
    }

    fn origin(origin: &str) -> Result<bool, ()> {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        origins()
            .check_origin(&headers, "127.0.0.1:8443".parse().unwrap())
            .map(|cors| cors.is_some())
            .map_err(|_| ())
    }

    #[test]
    fn only_our_hosts_are_answered_for() {
        for good in [
            "mcp.example.com",
            "MCP.example.com:8443",
            "localhost:1",
            "127.0.0.1:8443",
        ] {
            assert!(host(good), "{good}");
        }
        for bad in [
            "evil.example",
            "mcp.example.com.evil.example",
            "127.0.0.2",
            "",
            "[::1]:8443",
        ] {
            assert!(!host(bad), "{bad}");
        }
    }

    #[test]
    fn only_configured_origins_and_our_own_pass() {
        assert_eq!(origin("https://app.example.com"), Ok(true));
        assert_eq!(origin("https://mcp.example.com"), Ok(false));
        assert_eq!(origin("http://localhost:8443"), Ok(false));
        for bad in [
            "null",
            "https://evil.example",
            "http://localhost:9999",
            "http://localhost",
            "https://app.example.com.evil.example",
            "file://",
        ] {
            assert_eq!(origin(bad), Err(()), "{bad}");
        }
    }
}
