//! `gatehouse audit verify`: does the chain hold, who signed it, and what can't be told.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use super::{VerifyArgs, clean};
use crate::{
    audit::{
        PublicKey,
        verify::{self, Report},
    },
    cli::USAGE,
};

/// Verifies, and says everything on standard error: 0 when the chain holds, 1 when it doesn't or
/// can't be read, 2 when a public key is none.
#[must_use]
pub fn run(args: &VerifyArgs) -> ExitCode {
    ExitCode::from(run_to(args, &mut io::stderr().lock()))
}

/// [`run`] with an output of the caller's.
pub fn run_to(args: &VerifyArgs, err: &mut dyn Write) -> u8 {
    let (text, code) = judge(args);
    // Nothing is left to tell it to when standard error is gone; the code still says it.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    code
}

fn judge(args: &VerifyArgs) -> (String, u8) {
    let mut keys = Vec::new();
    for path in &args.public_key {
        match PublicKey::load(path) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let path = clean(&path.display().to_string());
                return (format!("gatehouse: {path} {error}\n"), USAGE);
            }
        }
    }
    match verify::files(&args.files, &keys) {
        Ok(report) => (good(&report, !keys.is_empty()), 0),
        Err(error) => (format!("{}\n", clean(&error.to_string())), 1),
    }
}

fn good(report: &Report, trusted: bool) -> String {
    let mut out = String::new();
    let (first, last) = report.seq;
    let (from, to) = &report.time;
    let _ = writeln!(
        out,
        "the chain holds: {} events, {first} to {last}, {from} to {to}",
        report.events
    );
    if first > 1 {
        let _ = writeln!(
            out,
            "  what came before event {first} is not in these files"
        );
    }
    if report.lost > 0 {
        let _ = writeln!(
            out,
            "  the log says itself that {} events could not be written",
            report.lost
        );
    }
    signatures(&mut out, report, trusted);
    end(&mut out, report);
    out
}

fn signatures(out: &mut String, report: &Report, trusted: bool) {
    let Some((seq, time)) = &report.signed else {
        out.push_str(
            "  nothing is signed: whoever can write to the files can have rewritten them whole\n",
        );
        return;
    };
    let keys: Vec<_> = report.keys.iter().map(String::as_str).collect();
    let whose = if trusted {
        "a key that you trust"
    } else {
        "a key that the log names itself; --public-key tells whether it is the right one"
    };
    let _ = writeln!(
        out,
        "  signed up to event {seq} ({time}) by {}, {whose}; checkpoints: {}",
        keys.join(", "),
        report.checkpoints
    );
    if let Some(since) = &report.unsigned_since {
        let _ = writeln!(
            out,
            "  the last {} events (since {since}) are after the last checkpoint: they can have \
             been rewritten or cut off",
            report.seq.1 - seq
        );
    }
}

fn end(out: &mut String, report: &Report) {
    if !report.stopped {
        out.push_str(
            "  the end is not a gateway.stop: the gateway runs, was killed, or the end was cut off\n",
        );
    }
    let hash = report.hash.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let _ = writeln!(
        out,
        "  that nothing followed event {} can't be told from files; its hash, to compare with \
         later: {hash}",
        report.seq.1
    );
}
