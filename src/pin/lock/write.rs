//! A lock file as text.

use std::fmt::{self, Display, Formatter};

use super::{Lock, Locked};
use crate::pin::{Definition, Kind, hidden};

impl Display for Lock {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.backends
            .iter()
            .try_for_each(|(name, locked)| backend(f, name, locked))
    }
}

fn backend(f: &mut Formatter<'_>, name: &str, locked: &Locked) -> fmt::Result {
    // Backend names are letters, digits, `_` and `-`: bare keys.
    writeln!(f, "\n[backends.{name}]")?;
    for file in &locked.origin.files {
        writeln!(f, "\n[[backends.{name}.program]]")?;
        writeln!(f, "path = {}", quoted(&file.path.display().to_string()))?;
        writeln!(f, "digest = \"{}\"", file.digest)?;
    }
    if let Some(package) = &locked.origin.package {
        writeln!(f, "\n[backends.{name}.package]")?;
        writeln!(f, "runner = {}", quoted(&package.runner))?;
        if let Some(unknown) = &package.unknown {
            writeln!(f, "unknown = {}", quoted(unknown))?;
        }
        if let Some(files) = &package.files {
            writeln!(f, "files = \"{files}\"")?;
        }
        list(f, "packages", &package.packages)?;
    }
    if let Some(instructions) = &locked.instructions {
        writeln!(f, "\n[backends.{name}.instructions]")?;
        definition(f, instructions)?;
    }
    for kind in Kind::ALL {
        for item in locked.lists[kind.index()].values() {
            writeln!(f, "\n[[backends.{name}.{}]]", table(kind))?;
            writeln!(f, "name = {}", quoted(&item.name))?;
            definition(f, item)?;
        }
    }
    Ok(())
}

fn definition(f: &mut Formatter<'_>, item: &Definition) -> fmt::Result {
    writeln!(f, "digest = \"{}\"", item.digest)?;
    if let Some(modern) = &item.modern {
        writeln!(f, "modern = \"{modern}\"")?;
    }
    if !item.hidden.is_empty() {
        list(f, "hidden", &item.hidden)?;
    }
    list(f, "shows", &item.shows)
}

fn list(f: &mut Formatter<'_>, key: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return writeln!(f, "{key} = []");
    }
    writeln!(f, "{key} = [")?;
    for line in lines {
        writeln!(f, "    {},", quoted(line))?;
    }
    writeln!(f, "]")
}

fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tools",
        Kind::Prompt => "prompts",
        Kind::Template => "resource_templates",
    }
}

/// A basic string of TOML. What is hidden is an escape, so that a diff shows it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || hidden::class(c, before, chars.peek().copied()).is_some() => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xFFFF => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                });
            }
            c => out.push(c),
        }
        before = Some(c);
    }
    out.push('"');
    out
}

const HEAD: &str = "\
# Made by `gatehouse pin`: what each backend was when it was reviewed. Commit it and read its diff;
# `digest` is what counts, `shows` is what it stands for. Change it by `gatehouse pin`, not by hand.

version = 1
";
