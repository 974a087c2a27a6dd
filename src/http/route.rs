//! Paths.
//!
//! Invariant: a path has one spelling (and a trailing slash, since no client follows a redirect);
//! whatever is written otherwise is no route.

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/healthz`.
    Health,
    /// Below `/.well-known/`, also where some clients append it to an endpoint, and the other paths
    /// of an authorization server.
    WellKnown,
    /// `/{backend}/…`.
    Backend(&'a str, Endpoint),
    /// Anything else.
    Unknown,
}

/// What a backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Streamable HTTP.
    Mcp,
    /// The stream of HTTP+SSE.
    Sse,
    /// Where the client of an HTTP+SSE stream posts.
    Messages,
}

impl<'a> Route<'a> {
    /// Reads a path.
    pub(crate) fn of(path: &'a str) -> Self {
        if path == "/healthz" {
            return Self::Health;
        }
        let oauth = OAUTH.contains(&path.strip_suffix('/').unwrap_or(path));
        if path.contains("/.well-known/") || oauth {
            return Self::WellKnown;
        }
        let path = path.strip_prefix('/').unwrap_or_default();
        let Some((backend, rest)) = path.split_once('/') else {
            return Self::Unknown;
        };
        let endpoint = match rest.strip_suffix('/').unwrap_or(rest) {
            "mcp" => Endpoint::Mcp,
            "sse" => Endpoint::Sse,
            "messages" => Endpoint::Messages,
            _ => return Self::Unknown,
        };
        Self::Backend(backend, endpoint)
    }
}

/// Where clients of 2025-03-26 look for an authorization server that we are not.
const OAUTH: [&str; 3] = ["/authorize", "/token", "/register"];

#[cfg(test)]
mod tests {
    use super::{Endpoint, Route};

    #[test]
    fn what_an_authorization_server_would_have_is_not_here() {
        for path in [
            "/authorize",
            "/token/",
            "/register",
            "/a/mcp/.well-known/x",
            "/.well-known/",
        ] {
            assert_eq!(Route::of(path), Route::WellKnown, "{path}");
        }
        for path in ["/authorize//", "/authorize/x", "/a/token", "/.well-known"] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        assert_eq!(Route::of("/a/mcp"), Route::Backend("a", Endpoint::Mcp));
        assert_eq!(Route::of("/a/mcp/"), Route::Backend("a", Endpoint::Mcp));
        assert_eq!(
            Route::of("/a/messages"),
            Route::Backend("a", Endpoint::Messages)
        );
        for odd in [
            "//a/mcp",
            "/a//mcp",
            "/a/mcp//",
            "/a/./mcp",
            "/a/../a/mcp",
            "/a%2fmcp",
            "/a/MCP",
            "/a/mcp/x",
            "/a",
            "/",
            "",
            "*",
            "/a/mcp;x=1",
        ] {
            assert!(!matches!(Route::of(odd), Route::Backend("a", _)), "{odd}");
        }
    }
}
