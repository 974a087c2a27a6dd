//! `gatehouse audit show`: events as text or JSON lines.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use super::{ShowArgs, clean, filter::Filter};
use crate::audit::{
    Line,
    reader::{RawLine, Reader, in_order},
};

/// Prints to standard output; what can't be read is named on standard error, and the code is 1.
#[must_use]
pub fn run(args: &ShowArgs) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let shown = run_to(args, &mut out, &mut io::stderr().lock());
    match shown.and_then(|good| out.flush().map(|()| good)) {
        Ok(true) => ExitCode::SUCCESS,
        // A reader that went away early is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// [`run`] with outputs of the caller's; false when something could not be read.
///
/// # Errors
/// When `out` can't be written.
pub fn run_to(args: &ShowArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<bool> {
    let files = match in_order(&args.files) {
        Ok(files) => files,
        Err((path, error)) => {
            complain(err, &format!("{}: {error}", path.display()));
            return Ok(false);
        }
    };
    let filter = Filter::new(args);
    let mut good = true;
    for path in files {
        good &= match Reader::open(&path) {
            Ok(mut reader) => show(args, &filter, &mut reader, (out, err))?,
            Err(error) => {
                complain(err, &format!("{}: {error}", path.display()));
                false
            }
        };
    }
    Ok(good)
}

fn show(
    args: &ShowArgs,
    filter: &Filter<'_>,
    reader: &mut Reader,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> io::Result<bool> {
    let path = clean(&reader.path().display().to_string());
    let mut good = true;
    loop {
        let raw = match reader.next_line() {
            Ok(Some(raw)) => raw,
            Ok(None) => return Ok(good),
            Err(error) => {
                complain(err, &format!("{path}: {error}"));
                return Ok(false);
            }
        };
        match Line::parse(raw.bytes) {
            Ok(line) if filter.passes(&line) => print(args, (&line, raw), out)?,
            Ok(_) => {}
            Err(error) => {
                complain(err, &format!("{path}:{}: {error}", raw.number));
                good = false;
            }
        }
    }
}

/// A line that was parsed has no hostile character in it; what its escapes stand for may.
fn print(
    args: &ShowArgs,
    (line, raw): (&Line<'_>, RawLine<'_>),
    out: &mut dyn Write,
) -> io::Result<()> {
    if args.json {
        out.write_all(raw.bytes)?;
        return out.write_all(b"\n");
    }
    writeln!(out, "{}", clean(&readable(line)))
}

fn readable(line: &Line<'_>) -> String {
    let mut out = format!("{} {:>7} {:<14}", line.time, line.seq, line.event);
    word(&mut out, "", line.decision.as_deref());
    word(&mut out, "", line.status.as_deref());
    if let Some(principal) = &line.principal {
        let _ = write!(out, " {principal}");
        if let Some(auth) = &line.auth {
            let _ = write!(out, "({auth})");
        }
    }
    word(&mut out, "from ", line.client.as_deref());
    word(&mut out, "on ", line.backend.as_deref());
    number(&mut out, "#", line.instance, "");
    word(&mut out, "", line.method.as_deref());
    word(&mut out, "", line.tool.as_deref());
    word(&mut out, "", line.args.map(|args| args.get()));
    word(&mut out, "id=", line.id.map(|id| id.get()));
    word(&mut out, "rule=", line.rule.as_deref());
    number(&mut out, "", line.duration_us, "µs");
    number(&mut out, "in=", line.bytes_in, "");
    number(&mut out, "out=", line.bytes_out, "");
    word(&mut out, "session=", line.session.as_deref());
    word(&mut out, "trace=", line.trace_id.as_deref());
    number(&mut out, "lost=", line.lost, "");
    word(&mut out, "key=", line.key.as_deref());
    word(&mut out, "- ", line.detail.as_deref());
    out
}

fn word(out: &mut String, label: &str, text: Option<&str>) {
    if let Some(text) = text {
        let cut = text.char_indices().nth(MAX_SHOWN).map(|(at, _)| at);
        let (text, more) = cut.map_or((text, ""), |at| (&text[..at], "…"));
        let _ = write!(out, " {label}{text}{more}");
    }
}

fn number(out: &mut String, label: &str, value: Option<u64>, unit: &str) {
    if let Some(value) = value {
        let _ = write!(out, " {label}{value}{unit}");
    }
}

fn complain(err: &mut dyn Write, text: &str) {
    // Nobody is left to tell when standard error is gone; the code still says it.
    let _ = writeln!(err, "{}", clean(text));
}

/// Characters of one value; `--json` has them all.
const MAX_SHOWN: usize = 200;
