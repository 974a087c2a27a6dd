//! `gatehouse key new`: a key for somebody, shown once.
//!
//! The key and the block go to standard output, in this order, so that both can be pasted; what to
//! do with them goes to standard error. The key is stored nowhere.

use std::{fmt::Write as _, io::Write, process::ExitCode};

use super::{KeyCommand, KeyNewArgs, deliver};
use crate::auth::key;

/// Makes the key and prints it.
#[must_use]
pub fn run(command: &KeyCommand) -> ExitCode {
    let KeyCommand::New(args) = command;
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    run_to(args, &mut out, &mut err)
}

/// [`run`] to places of the caller's.
pub fn run_to(args: &KeyNewArgs, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Ok(key) = key::generate() else {
        let _ = writeln!(err, "error: the system gives no random numbers");
        return ExitCode::FAILURE;
    };
    let _ = writeln!(
        err,
        "The key is shown this once; give it to {} and keep no copy. The block goes into {}.",
        args.name,
        super::DEFAULT_CONFIG
    );
    let text = format!(
        "{}\n\n{}",
        key.expose(),
        block(&args.name, &key::digest(key.expose()), &args.roles)
    );
    let code = deliver(out, text.as_bytes());
    if args.roles.is_empty() {
        let _ = writeln!(
            err,
            "It holds no role yet, so it can do nothing: name one in `roles`."
        );
    }
    code
}

/// The TOML block for a key; names must have been checked.
#[must_use]
pub fn block(name: &str, digest: &[u8; 32], roles: &[String]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest {
        let _ = write!(hex, "{byte:02x}");
    }
    // `Debug` of printable ASCII without quotes and backslashes is a TOML string.
    let roles: Vec<_> = roles.iter().map(|role| format!("{role:?}")).collect();
    format!(
        "[[auth.keys]]\nname = {name:?}\nsha256 = \"{hex}\"\nroles = [{}]\n",
        roles.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, roles: &[&str]) -> KeyNewArgs {
        KeyNewArgs {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        }
    }

    #[test]
    fn the_key_is_printed_once_and_the_block_holds_its_digest_only() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let _ = run_to(&args("alice", &["reader", "mcp:write"]), &mut out, &mut err);
        let out = String::from_utf8(out).unwrap();
        let (key, block) = out.split_once("\n\n").unwrap();
        assert_eq!(key.len(), 3 + 43);
        assert!(key.starts_with("gh_"));
        assert!(!block.contains(key));
        assert!(!String::from_utf8(err).unwrap().contains(key));
        let table: toml::Table = block.parse().unwrap();
        let entry = &table["auth"]["keys"][0];
        let digest = key::digest(key);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry["sha256"].as_str(), Some(hex.as_str()));
        assert_eq!(entry["name"].as_str(), Some("alice"));
        assert_eq!(entry["roles"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn two_keys_differ() {
        assert_ne!(
            key::generate().unwrap().expose(),
            key::generate().unwrap().expose()
        );
    }
}
