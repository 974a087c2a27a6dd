//! `gatehouse man`: one page for the program and all its commands.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap_mangen::Man;

use super::{definition, deliver};

/// Prints the page, in roff.
#[must_use]
pub fn run() -> ExitCode {
    run_to(&mut io::stdout().lock())
}

/// [`run`] to a place of the caller's.
pub fn run_to(out: &mut dyn Write) -> ExitCode {
    match page() {
        Ok(page) => deliver(out, &page),
        Err(_) => ExitCode::FAILURE,
    }
}

fn page() -> io::Result<Vec<u8>> {
    let root = definition();
    let mut page = Vec::new();
    let man = Man::new(root.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for command in root.get_subcommands() {
        render_command(command, "gatehouse", &mut page)?;
    }
    page.extend_from_slice(TAIL.as_bytes());
    Ok(page)
}

/// One command below the program, or else the commands below it.
fn render_command(command: &clap::Command, parent: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        for below in command.get_subcommands() {
            render_command(below, &name, page)?;
        }
        return Ok(());
    }
    writeln!(page, ".SS {name}")?;
    let alone = command.clone().bin_name(name).disable_help_flag(true);
    let man = Man::new(alone);
    let mut part = Vec::new();
    man.render_description_section(&mut part)?;
    man.render_synopsis_section(&mut part)?;
    man.render_options_section(&mut part)?;
    // The sections of a page of its own become paragraphs of this one.
    for line in String::from_utf8_lossy(&part).lines() {
        if line.starts_with(".SH") {
            writeln!(page, ".PP")?;
        } else {
            writeln!(page, "{line}")?;
        }
    }
    Ok(())
}

const TAIL: &str = ".SH ENVIRONMENT
.TP
.B RUST_LOG
What to log, as a filter of tracing (for example gatehouse=debug).
.TP
.B NO_COLOR
Set to anything: no colour in diagnostics.
.TP
.B SSLKEYLOGFILE
Honoured only with keylog = true in [server.tls].
.SH FILES
.TP
.B proxy.toml
The configuration; proxy.toml.example describes every key.
.SH \"EXIT STATUS\"
0: success. 1: failure. 2: wrong usage or a configuration that can't be used.
";
