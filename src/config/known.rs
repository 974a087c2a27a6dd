//! What is known of keys that no reader asks for: features to come, and likely mistakes.
//!
//! Owns the one list of keys that the contract names but this version can't honour. A key that is
//! built gets a reader and loses its line here.

/// What an unread key is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The contract knows it, this version doesn't.
    Unavailable,
    /// Nobody knows it; what it may have been meant to be.
    Unknown(String),
}

/// Judges a key of a table, given the keys that were asked for there.
pub(super) fn judge(table: &str, key: &str, asked: &[&'static str]) -> Verdict {
    let to_come = UNAVAILABLE.iter().filter(|(path, _)| *path == table);
    let to_come: Vec<&str> = to_come.flat_map(|(_, keys)| keys.iter().copied()).collect();
    if to_come.contains(&key) {
        return Verdict::Unavailable;
    }
    if let Some((.., help)) = MISTAKES
        .iter()
        .find(|(path, keys, _)| *path == table && keys.contains(&key))
    {
        return Verdict::Unknown((*help).to_owned());
    }
    let near = nearest(key, asked.iter().copied().chain(to_come));
    if let Some(near) = near {
        return Verdict::Unknown(format!("did you mean `{near}`?"));
    }
    if let Some((home, _)) = HOMES.iter().find(|(_, keys)| keys.contains(&key)) {
        return Verdict::Unknown(format!("`{key}` belongs in `[{home}]`"));
    }
    let mut known: Vec<_> = asked.to_vec();
    known.sort_unstable();
    known.dedup();
    Verdict::Unknown(if known.is_empty() {
        "remove it".to_owned()
    } else {
        format!("known here: {}", known.join(", "))
    })
}

/// The candidate that `word` was probably meant to be.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A third of the letters may be wrong; longer input is no slip, and would cost time.
    if word.len() > 64 {
        return None;
    }
    let folded = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_ascii_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&folded, &other), candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// True when what stands under this name may be a secret.
pub(super) fn speaks_of_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Parts of names that stand for secrets.
const SECRET_WORDS: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL"];

/// Table (names of the user's as `*`) and the keys there that have to wait for their feature.
const UNAVAILABLE: &[(&str, &[&str])] = &[("", &["admin"]), ("server.tls", &["acme"])];

/// Habits from other programs, and what is written here instead.
const MISTAKES: &[(&str, &[&str], &str)] = &[
    (
        "server",
        &["host", "port", "bind", "address", "addr"],
        "write address and port together: listen = \"127.0.0.1:8443\"",
    ),
    (
        "backends.*",
        &["args", "arguments"],
        "write program and arguments together: command = [\"program\", \"argument\"]",
    ),
    (
        "backends.*",
        &["url", "type", "transport"],
        "a backend is a stdio server that is started with `command`",
    ),
    (
        "",
        &["mcpServers", "servers"],
        "write `[backends.NAME]`; `gatehouse import FILE.json` converts JSON files",
    ),
    (
        "auth.keys",
        &["key", "token", "secret"],
        "keys don't stand in this file: write the `sha256` that `gatehouse key new` prints",
    ),
];

/// Where a key that is well known stands.
const HOMES: &[(&str, &[&str])] = &[
    (
        "server",
        &[
            "listen",
            "public_url",
            "allowed_origins",
            "allowed_hosts",
            "drain_timeout",
            "insecure_http",
        ],
    ),
    ("server.tls", &["cert", "key", "self_signed", "keylog"]),
    ("auth", &["anonymous"]),
    (
        "limits",
        &[
            "max_body",
            "max_message",
            "max_sessions",
            "max_sessions_per_principal",
            "request_timeout",
            "session_idle_timeout",
            "resume_grace",
            "replay_buffer",
            "header_timeout",
            "failed_auth",
        ],
    ),
    (
        "backends.NAME",
        &[
            "command",
            "cwd",
            "env",
            "inherit_env",
            "protocol",
            "isolation",
            "warm",
            "max_instances",
            "start_timeout",
            "stop_timeout",
            "restart",
        ],
    ),
    (
        "backends.NAME.filter",
        &[
            "methods",
            "tools",
            "resources",
            "prompts",
            "rules",
            "redact",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let asked = ["listen", "public_url"];
        let judged = judge("server", "listn", &asked);
        assert_eq!(
            judged,
            Verdict::Unknown("did you mean `listen`?".to_owned())
        );
        let judged = judge("server", "public-url", &asked);
        assert_eq!(
            judged,
            Verdict::Unknown("did you mean `public_url`?".to_owned())
        );
    }

    #[test]
    fn features_to_come_are_told_apart_from_nonsense() {
        assert_eq!(judge("", "admin", &[]), Verdict::Unavailable);
        assert_eq!(judge("server.tls", "acme", &[]), Verdict::Unavailable);
        assert_eq!(
            judge("server", "xyzzy", &[]),
            Verdict::Unknown("remove it".to_owned())
        );
    }

    #[test]
    fn a_key_in_the_wrong_table_is_sent_home() {
        let judged = judge("limits", "drain_timeout", &["max_body"]);
        assert_eq!(
            judged,
            Verdict::Unknown("`drain_timeout` belongs in `[server]`".to_owned())
        );
    }
}
