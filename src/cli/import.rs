//! `gatehouse import`: a client's JSON file becomes a `proxy.toml`.
//!
//! Owns the order of the steps and what is said about them. Invariant: no secret of the JSON file
//! reaches standard output; whatever can't be carried over is named on standard error, never
//! dropped in silence.

mod secrets;
mod source;
mod template;
mod write;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

use super::{ImportArgs, deliver};
use crate::auth;

/// Converts the file: TOML on standard output, remarks on standard error.
#[must_use]
pub fn run(args: &ImportArgs) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(error) => {
            let _ = writeln!(err, "error: can't read {}: {error}", args.file.display());
            return ExitCode::FAILURE;
        }
    };
    convert(&text, &mut out, &mut err)
}

/// [`run`] on a text, to places of the caller's.
pub fn convert(text: &str, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let mut notes = Notes::default();
    let servers = source::read(text, &mut notes).and_then(|servers| {
        let some = servers.iter().any(|server| !server.disabled);
        some.then_some(servers).ok_or(ImportError::Nothing)
    });
    let made = servers.and_then(|servers| Ok((servers, auth::key::generate()?)));
    let (mut servers, key) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = writeln!(err, "{notes}error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let variables = secrets::extract(&mut servers);
    let toml = write::document(&servers, &auth::key::digest(key.expose()));
    let code = deliver(out, toml.as_bytes());
    if code == ExitCode::SUCCESS {
        let _ = write!(err, "{notes}{}", remarks(&variables, key.expose()));
    }
    code
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = MAX_JSON + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > MAX_JSON {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8 text"))
}

fn remarks(variables: &[secrets::Variable], key: &str) -> String {
    let mut text = String::new();
    if !variables.is_empty() {
        text.push_str(
            "Set these variables in the gateway's environment; their values were left out:\n",
        );
        for variable in variables {
            text.push_str(&format!(
                "  {:<28} {}\n",
                variable.name,
                printable(&variable.origin)
            ));
        }
    }
    text.push_str(&format!(
        "A key with all rights was made. It is shown this once; its SHA-256 stands in the file:\n  \
         {key}\nThen run: gatehouse check && gatehouse\n"
    ));
    text
}

/// What is told about the conversion, in the order in which it came up.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn add(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

impl std::fmt::Display for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|note| writeln!(f, "note: {}", printable(note)))
    }
}

/// Text of the JSON file without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Why nothing could be converted.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error("not JSON: {0}")]
    Syntax(String),
    #[error("nested more than {} levels deep", source::MAX_DEPTH)]
    Depth,
    #[error("there is neither `mcpServers` nor `servers` in this file")]
    Shape,
    #[error("no server in this file can be put behind the gateway")]
    Nothing,
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

const MAX_JSON: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
