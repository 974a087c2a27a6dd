//! The program's own log: to stderr, as text or as JSON lines.
//!
//! Owns format, filter and escaping. It must never know what is logged. Invariant: one event is
//! one line, whatever a peer put into it.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// The log couldn't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is no list of directives.
    #[error("log filter {filter:?} from {origin}: {source}")]
    Filter {
        /// The text.
        filter: String,
        /// Where it came from: `--log-level` or `RUST_LOG`.
        origin: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A log was set up before.
    #[error("the log is already set up")]
    Twice,
}

/// Sends events to stderr from now on.
///
/// `filter` (`--log-level`: a level or directives such as `gatehouse=debug,info`) wins over
/// `RUST_LOG`; without both it is `info`.
///
/// # Errors
/// A filter that can't be read, or a second call.
pub fn init(format: Format, filter: Option<&str>) -> Result<(), TelemetryError> {
    let filter = directives(filter, std::env::var("RUST_LOG").ok().as_deref())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let done = match format {
        Format::Json => {
            let json = builder.json().flatten_event(true).with_span_list(false);
            json.with_ansi(false).with_writer(io::stderr).try_init()
        }
        Format::Text => {
            let ansi = colours();
            let text = builder.compact().with_target(false).with_ansi(ansi);
            text.with_writer(Lines { ansi }).try_init()
        }
    };
    done.map_err(|_| TelemetryError::Twice)
}

fn directives(flag: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let flag = flag.map(|text| (text, "--log-level"));
    let variable = variable.map(|text| (text, "RUST_LOG"));
    let chosen = flag
        .or(variable)
        .filter(|(text, _)| !text.trim().is_empty());
    let (text, origin) = chosen.unwrap_or(("info", "the default"));
    EnvFilter::builder()
        .parse(text)
        .map_err(|source| TelemetryError::Filter {
            filter: text.to_owned(),
            origin,
            source,
        })
}

/// Colour only where somebody sees it and nobody asked for none (no-color.org).
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// stderr, with every control character inside an event escaped.
///
/// The formatter escapes terminal sequences in values, but lets line ends through: with them a
/// peer could forge a line of the log.
#[derive(Debug, Clone, Copy)]
struct Lines {
    ansi: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { ansi: self.ansi }
    }
}

#[derive(Debug)]
struct Line {
    ansi: bool,
}

impl Write for Line {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match escaped(event, self.ansi) {
            None => io::stderr().lock().write_all(event)?,
            Some(clean) => io::stderr().lock().write_all(clean.as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The event with its control characters spelt out, or `None` when there are none.
///
/// With colours on, ESC is left alone: those in values were escaped by the formatter before.
fn escaped(event: &[u8], ansi: bool) -> Option<String> {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    let text = String::from_utf8_lossy(body);
    let hostile = |c: char| match c {
        '\t' => false,
        '\u{1b}' => !ansi,
        '\u{2028}' | '\u{2029}' => true,
        other => other.is_control(),
    };
    if !text.contains(hostile) && matches!(text, std::borrow::Cow::Borrowed(_)) {
        return None;
    }
    let mut clean = String::with_capacity(event.len() + 16);
    for c in text.chars() {
        match c {
            c if hostile(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean.push('\n');
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_one_line_whatever_is_in_it() {
        let forged = b"INFO peer=a\nINFO forged\r\x1b[2J\x00\xc2\x85\xe2\x80\xa8\xff end\n";
        let clean = escaped(forged, false).unwrap();
        assert_eq!(clean.matches('\n').count(), 1);
        assert!(clean.ends_with(" end\n"));
        assert!(!clean.contains(|c: char| c != '\n' && c.is_control()));
        assert!(
            clean.contains(r"a\nINFO forged\r\u{1b}[2J\u{0}\u{85}\u{2028}"),
            "{clean}"
        );
    }

    #[test]
    fn a_clean_event_is_written_as_it_is() {
        assert_eq!(escaped("INFO städte\tok\n".as_bytes(), false), None);
        assert_eq!(escaped(b"\x1b[32mINFO\x1b[0m ok\n", true), None);
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_info_is_the_default() {
        let shown = |flag, variable| directives(flag, variable).unwrap().to_string();
        assert_eq!(shown(Some("debug"), Some("warn")), "debug");
        assert_eq!(shown(None, Some("gatehouse=trace")), "gatehouse=trace");
        assert_eq!(shown(None, None), "info");
        assert_eq!(shown(None, Some("")), "info");
        let bad = directives(Some("a=b=c"), None).unwrap_err();
        assert!(bad.to_string().contains("--log-level"));
    }
}
