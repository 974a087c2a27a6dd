//! The new `proxy.toml`.
//!
//! Owns how it is laid out and quoted. Invariant: what is written parses, whatever the strings hold.

use std::fmt::Write;

use super::{source::Server, template::Template};
use crate::cli::key;

/// The whole file.
pub(super) fn document(servers: &[Server], digest: &[u8; 32]) -> String {
    let mut out = String::from(HEAD);
    out.push_str(&key::block(ADMIN, digest, &[ADMIN.to_owned()]));
    out.push_str(&format!(
        "\n[roles.{ADMIN}]\n\"*\" = {{}}  # everything on every backend\n"
    ));
    for server in servers {
        let block = block(server);
        out.push('\n');
        if server.disabled {
            out.push_str("# disabled in the JSON file\n");
            out.extend(block.lines().map(|line| format!("# {line}\n")));
        } else {
            out.push_str(&block);
        }
    }
    out
}

fn block(server: &Server) -> String {
    let quoted = |template: &Template| quote(&template.expandable());
    let command: Vec<_> = server.command.iter().map(quoted).collect();
    let mut out = format!(
        "[backends.{}]\ncommand = [{}]\n",
        server.name,
        command.join(", ")
    );
    if let Some(cwd) = &server.cwd {
        out.push_str(&format!("cwd = {}\n", quoted(cwd)));
    }
    if !server.env.is_empty() {
        out.push_str(&format!("\n[backends.{}.env]\n", server.name));
        for (name, value) in &server.env {
            out.push_str(&format!("{} = {}\n", key_name(name), quoted(value)));
        }
    }
    out
}

fn key_name(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        quote(name)
    }
}

/// A basic string of TOML on one line.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

const ADMIN: &str = "admin";
const HEAD: &str = "\
# Made by `gatehouse import`. proxy.toml.example describes every key;
# `gatehouse check` says whether this file is good.

[server]
listen = \"127.0.0.1:8443\"

[server.tls]
self_signed = true

# Its key was printed once. `gatehouse key new NAME --role R` makes more.
";
