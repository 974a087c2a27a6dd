//! `micro`: how many instructions the parts of the gateway take that every call passes.
//!
//! `micro` runs each case under callgrind twice, with different numbers of repetitions, and prints
//! the difference for one: what starting and preparing costs falls out, and nothing else that the
//! machine does counts. `micro CASE N` is one such run. Nothing here judges a count.

mod cases;

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

const USAGE: &str = "\
micro [WORD]    instructions of each case whose name contains WORD (needs valgrind)
micro CASE N    runs one case N times, for a profiler";

/// Repetitions of the two runs. The first is enough for thread-locals, tables and pools to be there.
const FEW: u32 = 64;
const MANY: u32 = 320;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "micro: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => count(""),
        ["--help"] => Ok(writeln!(std::io::stderr(), "{USAGE}")?),
        [word] => count(word),
        [name, repetitions] => {
            let case = cases::ALL.iter().find(|case| case.name == name);
            let case = case.with_context(|| format!("no case {name}"))?;
            (case.run)(repetitions.parse()?)
        }
        _ => bail!("{USAGE}"),
    }
}

fn count(word: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "| case | instructions |\n| --- | ---: |")?;
    for case in cases::ALL.iter().filter(|case| case.name.contains(word)) {
        let (few, many) = (
            instructions(case.name, FEW)?,
            instructions(case.name, MANY)?,
        );
        let each = many.saturating_sub(few) / u64::from(MANY - FEW);
        writeln!(out, "| {} | {each} |", case.name)?;
    }
    Ok(())
}

/// All instructions of one run, as callgrind counts them.
fn instructions(case: &str, repetitions: u32) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([case, &repetitions.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("can't start valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{case}: {text}");
    }
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .context("callgrind printed no count")?;
    Ok(collected.1.trim().parse()?)
}
