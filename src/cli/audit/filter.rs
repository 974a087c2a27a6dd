//! Which events are shown.

use globset::{GlobBuilder, GlobMatcher};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use super::ShowArgs;
use crate::audit::Line;

/// The filters of one command; an event must pass all of them.
pub(super) struct Filter<'a> {
    args: &'a ShowArgs,
    tool: Option<GlobMatcher>,
}

impl<'a> Filter<'a> {
    pub(super) fn new(args: &'a ShowArgs) -> Self {
        let tool = args.tool.as_ref().map(globset::Glob::compile_matcher);
        Self { args, tool }
    }

    /// True when the event is to be shown.
    pub(super) fn passes(&self, line: &Line<'_>) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let args = self.args;
        let time = line.timestamp();
        is(&args.principal, &line.principal)
            && is(&args.backend, &line.backend)
            && is(&args.decision, &line.decision)
            && (args.event.is_empty() || args.event.iter().any(|event| *event == line.event))
            && self
                .tool
                .as_ref()
                .is_none_or(|tool| line.tool.as_ref().is_some_and(|name| tool.is_match(name)))
            && args.since.is_none_or(|since| time >= Some(since))
            && args.until.is_none_or(|until| time < Some(until))
    }
}

/// A glob as in `[backends.X.filter]`: `*` passes over every character.
pub(super) fn glob(text: &str) -> Result<globset::Glob, String> {
    let glob = GlobBuilder::new(text).literal_separator(false).build();
    glob.map_err(|error| error.kind().to_string())
}

/// A time: RFC 3339, a date in UTC, or an age.
pub(super) fn time(text: &str) -> Result<Timestamp, &'static str> {
    let date = |text: &str| text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
    let time = text.parse().ok();
    let time = time.or_else(|| age(text, Timestamp::now()));
    time.or_else(|| Some(date(text)?.timestamp()))
        .ok_or("write 2026-01-31T12:00:00Z, 2026-01-31, or an age such as 90s, 30m, 2h, 7d")
}

fn age(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: u32 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    now.checked_sub(SignedDuration::from_secs(i64::from(number) * unit))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_three_notations() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(
            time("2026-01-31T12:00:00+01:00"),
            Ok(at("2026-01-31T11:00:00Z"))
        );
        assert_eq!(time("2026-01-31"), Ok(at("2026-01-31T00:00:00Z")));
        let now = at("2026-01-31T12:00:00Z");
        assert_eq!(age("90s", now), Some(at("2026-01-31T11:58:30Z")));
        assert_eq!(age("7d", now), Some(at("2026-01-24T12:00:00Z")));
        for bad in ["", "7", "d", "+7d", "-7d", "7ä", "yesterday", "2026-13-01"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
