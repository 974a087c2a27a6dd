//! Points in time and durations.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{Failure, node::Part, value::Value};

/// A part of a point in time, in a time zone; or a whole duration in a unit.
pub(super) fn part(value: &Value<'_>, part: Part, zone: &TimeZone) -> Result<i64, Failure> {
    match value {
        Value::Time(time) => Ok(part_of_time(*time, part, zone)),
        Value::Span(span) => match part {
            Part::Hours => Ok(span.as_secs() / 3600),
            Part::Minutes => Ok(span.as_secs() / 60),
            Part::Seconds => Ok(span.as_secs()),
            Part::Milliseconds => Ok(i64::from(span.subsec_millis())),
            _ => Err(Failure::Types),
        },
        _ => Err(Failure::Types),
    }
}

fn part_of_time(time: Timestamp, part: Part, zone: &TimeZone) -> i64 {
    let local = zone.to_datetime(time);
    match part {
        Part::FullYear => i64::from(local.year()),
        Part::Month => i64::from(local.month()) - 1,
        Part::Date => i64::from(local.day()),
        Part::DayOfMonth => i64::from(local.day()) - 1,
        Part::DayOfWeek => i64::from(local.weekday().to_sunday_zero_offset()),
        Part::DayOfYear => i64::from(local.day_of_year()) - 1,
        Part::Hours => i64::from(local.hour()),
        Part::Minutes => i64::from(local.minute()),
        Part::Seconds => i64::from(local.second()),
        Part::Milliseconds => i64::from(local.millisecond()),
    }
}

/// A time zone by its name, or an offset `+02:00`.
pub(super) fn zone(text: &str) -> Option<TimeZone> {
    if text == "UTC" {
        return Some(TimeZone::UTC);
    }
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        b'0'..=b'9' => (1, text),
        _ => return TimeZone::get(text).ok(),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str, below: i32| {
        let good = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number: i32 = text.parse().ok().filter(|_| good)?;
        (number < below).then_some(number)
    };
    let seconds = sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60);
    Some(TimeZone::fixed(
        jiff::tz::Offset::from_seconds(seconds).ok()?,
    ))
}

/// `1h30m`, `-1.5s`, `250ms`: numbers with a unit each.
pub(super) fn span(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanos: i128 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(rest);
        let (whole, after) = rest.split_at(whole);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        let (unit, after) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((*unit, after.strip_prefix(name)?)))?;
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
            return None;
        }
        let number = |text: &str| {
            if text.is_empty() {
                Some(0)
            } else {
                text.parse().ok()
            }
        };
        let (whole, part): (i128, i128) = (number(whole)?, number(fraction)?);
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanos = nanos.checked_add(whole * unit + part * unit / scale)?;
        rest = after;
        any = true;
    }
    let nanos = if negative { -nanos } else { nanos };
    let seconds = i64::try_from(nanos / 1_000_000_000).ok()?;
    let below = i32::try_from(nanos % 1_000_000_000).ok()?;
    any.then(|| SignedDuration::new(seconds, below))
}

/// Longer names before their beginnings.
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::{span, zone};
    use jiff::SignedDuration;

    #[test]
    fn durations_read_as_they_are_written() {
        assert_eq!(span("1h30m"), Some(SignedDuration::from_mins(90)));
        assert_eq!(span("-1.5s"), Some(SignedDuration::from_millis(-1500)));
        assert_eq!(span("250ms"), Some(SignedDuration::from_millis(250)));
        assert_eq!(span("0"), Some(SignedDuration::ZERO));
        for bad in ["", "-", "1", "h", ".s", "1d", "1h ", "9999999999999999999h"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn offsets_and_utc_are_time_zones() {
        assert!(zone("UTC").is_some() && zone("+02:00").is_some() && zone("-09:30").is_some());
        for bad in ["", "+2:00", "25:00", "Mars/Olympus", "+02:60"] {
            assert!(zone(bad).is_none(), "{bad}");
        }
    }
}
