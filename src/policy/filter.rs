//! What the file says of a backend's messages: globs over names (what is allowed, what is denied,
//! deny wins), rules, redactions.
//!
//! It must never know who asks. Invariant: a name that no list speaks of passes only where there is
//! no allow list.

use crate::{
    glob::Globs,
    policy::{redact::Redactions, rules::Rules},
};

/// Allow and deny lists for one kind of name; deny wins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// What may pass; `None` lets everything pass.
    pub allow: Option<Globs>,
    /// What may not, whatever `allow` says.
    pub deny: Option<Globs>,
}

impl Rule {
    /// True when the name may pass.
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.matches(name))
            && !self.deny.as_ref().is_some_and(|deny| deny.matches(name))
    }

    /// True when everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_none()
    }
}

/// True when a URI is written in the one way that a glob over its text can judge: no `.` or `..`
/// segment, no empty one, no escape of a character that needs none (RFC 3986, 2.3) or of a
/// separator, scheme and host in lower case, and no host where `file:` needs none.
#[must_use]
pub fn is_plain(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else {
        return has_plain_path(uri);
    };
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
    lower(scheme)
        && lower(host)
        && !(scheme == "file" && host == "localhost")
        && has_plain_path(path)
        && has_plain_escapes(uri)
}

fn has_plain_path(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.is_empty()
        || path
            .split(['/', '\\'])
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

fn has_plain_escapes(uri: &str) -> bool {
    uri.match_indices('%').all(|(at, _)| {
        let code = uri
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        code.is_some_and(|code| {
            !code.is_ascii_alphanumeric()
                && !matches!(code, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\')
        })
    })
}

/// `[backends.X.filter]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// JSON-RPC methods, both directions.
    pub methods: Rule,
    /// Tool names.
    pub tools: Rule,
    /// Prompt names.
    pub prompts: Rule,
    /// Resource URIs.
    pub resources: Rule,
    /// Conditions on messages of clients.
    pub rules: Rules,
    /// What is replaced in messages of children.
    pub redact: Redactions,
}

impl Config {
    /// True when every name passes; rules and redactions are another matter.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let kinds = [&self.methods, &self.tools, &self.prompts, &self.resources];
        kinds.into_iter().all(Rule::is_open)
    }

    /// True when a method may be used. What every client and child need before anything else, and to
    /// let go of it, is used by whoever may use anything: only being denied keeps it out.
    #[must_use]
    pub fn permits_method(&self, method: &str) -> bool {
        let denied = || {
            self.methods
                .deny
                .as_ref()
                .is_some_and(|deny| deny.matches(method))
        };
        match HANDSHAKE.contains(&method) {
            true => !denied(),
            false => self.methods.permits(method),
        }
    }
}

/// The request that opens a session.
pub const HELLO: &str = "initialize";
/// Methods that an allow list needn't name.
const HANDSHAKE: [&str; 5] = [
    HELLO,
    "notifications/initialized",
    "notifications/cancelled",
    "ping",
    "server/discover",
];

#[cfg(test)]
mod tests {
    use super::{Config, Globs, Rule, is_plain};

    fn globs(patterns: &[&str]) -> Option<Globs> {
        Some(Globs::new(patterns.iter().map(|p| (*p).to_owned()).collect()).unwrap())
    }

    #[test]
    fn deny_wins_and_an_allow_list_closes_the_rest() {
        let rule = Rule {
            allow: globs(&["read_*", "write_a"]),
            deny: globs(&["write_*"]),
        };
        assert!(rule.permits("read_file"));
        assert!(!rule.permits("write_a"));
        assert!(!rule.permits("move"));
        assert!(!rule.permits("READ_file"));
    }

    #[test]
    fn an_allow_list_of_methods_leaves_the_handshake_and_a_deny_list_need_not() {
        let config = |allow: Option<Globs>, deny: Option<Globs>| Config {
            methods: Rule { allow, deny },
            ..Config::default()
        };
        let tools = config(globs(&["tools/*"]), None);
        for method in ["initialize", "ping", "server/discover", "tools/call"] {
            assert!(tools.permits_method(method), "{method}");
        }
        assert!(!tools.permits_method("prompts/list"));
        let mute = config(globs(&["tools/*"]), globs(&["ping"]));
        assert!(!mute.permits_method("ping"));
    }

    #[test]
    fn a_uri_that_could_be_written_otherwise_is_not_plain() {
        for odd in [
            "file:///a/../b",
            "file:///a/%2e%2E/b",
            "file:///a/.%2e/b",
            "file:///a/./b",
            "file:///a%2f..%2fb",
            "file:///a\\..\\b",
            "file:///a/..",
            "file:///a/%70rivate/x",
            "file:///a//private/x",
            "FILE:///a",
            "file://localhost/a",
            "http://Example.com/a",
            "file:///a%",
            "file:///a%zz",
        ] {
            assert!(!is_plain(odd), "{odd}");
        }
        for plain in [
            "file:///a/..b/c.d/...e",
            "file:///a%20b",
            "https://example.com",
            "misbehave://one",
            "http://example.com/a/?q=../x",
            "memo://",
            "urn:a:b",
            "file:///a/",
        ] {
            assert!(is_plain(plain), "{plain}");
        }
    }
}
