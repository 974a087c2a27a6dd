//! The end of a certificate's validity: the one field that rustls doesn't show.

use std::time::SystemTime;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// When a DER certificate ends; `None` when it can't be read (RFC 5280, 4.1).
pub(super) fn end(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    // version (absent in v1), serialNumber, signature, issuer, validity
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, time, _) = element(not_after)?;
    let text = std::str::from_utf8(time).ok()?;
    let text = match tag {
        // Two digits of the year: 50 to 99 are 19xx.
        UTC_TIME if text.get(..1)? >= "5" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    time.to_zoned(TimeZone::UTC)
        .ok()
        .map(|time| time.timestamp().into())
}

/// The day of a time, in UTC.
pub(super) fn day(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(
        |_| "an unknown day".to_owned(),
        |time| time.strftime("%Y-%m-%d").to_string(),
    )
}

/// The first DER element of some bytes: tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length
                .iter()
                .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(end: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (date, text) in [((2031, 2, 3), "2031-02-03"), ((2075, 12, 31), "2075-12-31")] {
            assert_eq!(day(end(&certificate(date)).unwrap()), text);
        }
    }

    #[test]
    fn damaged_bytes_are_no_time() {
        let whole = certificate((2031, 2, 3));
        for length in 0..whole.len().min(120) {
            assert_eq!(end(&whole[..length]), None, "{length}");
        }
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 0xff;
            // Whatever comes out, it comes out without a panic.
            let _ = end(&damaged);
        }
    }
}
