//! The notations inside string values: durations, sizes, addresses, digests, origins.
//!
//! Owns what is written how. It must never see where a value stands, nor put the value into its
//! answer, because the value may have come from a secret file.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::Uri;

use crate::limit::Rate;

/// Why a value is refused, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: String,
}

fn refuse<T>(message: &str, help: &str) -> Result<T, Refusal> {
    Err(Refusal {
        message: message.to_owned(),
        help: help.to_owned(),
    })
}

/// `"200ms"`, `"30s"`, `"5m"`, `"1h30m"`: whole numbers, each unit once, largest first.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    parse_duration(text).ok_or_else(|| Refusal {
        message: "not a duration".to_owned(),
        help: "write a whole number and a unit (ms, s, m, h, d), such as \"30s\" or \"1h30m\""
            .to_owned(),
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let unit = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let factor = match &after[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        if factor >= smallest {
            return None;
        }
        smallest = factor;
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &after[unit..];
    }
    (smallest != u64::MAX).then(|| Duration::from_millis(total))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, &text[end..]))
}

/// `"600/min"`, `"10/s"`, `"5000/h"`, `"100/d"`, `"30/10s"`: so many in so long.
pub(super) fn rate(text: &str) -> Result<Rate, Refusal> {
    parse_rate(text).ok_or_else(|| Refusal {
        message: "not a rate".to_owned(),
        help: "write a whole number, a slash and a time, such as \"600/min\" or \"10/s\""
            .to_owned(),
    })
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (count, per) = text.split_once('/')?;
    let (count, per) = (count.trim(), per.trim());
    let per = match per {
        "s" | "sec" | "second" => Duration::from_secs(1),
        "m" | "min" | "minute" => Duration::from_secs(60),
        "h" | "hour" => Duration::from_secs(3_600),
        "d" | "day" => Duration::from_secs(86_400),
        other => parse_duration(other).filter(|per| !per.is_zero())?,
    };
    let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let count = count.parse().ok().filter(|_| digits)?;
    Some(Rate { count, per })
}

/// `"4MiB"`, `"1MB"`, `"512KiB"`, `"100B"`: bytes.
pub(super) fn size(text: &str) -> Result<u64, Refusal> {
    let parsed = leading_number(text).and_then(|(number, unit)| {
        let factor: u64 = match unit.trim_start_matches(' ') {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    parsed.ok_or_else(|| Refusal {
        message: "not a size".to_owned(),
        help: "write a whole number and a unit (B, KiB, MiB, GiB, kB, MB, GB), such as \"4MiB\""
            .to_owned(),
    })
}

/// A size as a person writes it.
pub(super) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A duration as a person writes it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (factor, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        if millis >= factor && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

/// SHA-256 as 64 hex digits.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], Refusal> {
    let help = "`gatehouse key new NAME` prints a key and the block to paste here";
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex || text.starts_with("gh_") {
        let what = "not a SHA-256: it must be 64 hex digits; this looks like the key itself, which \
                    doesn't belong in this file";
        return refuse(what, help);
    }
    if text.len() != 64 {
        let what = format!("not a SHA-256: {} hex digits instead of 64", text.len());
        return refuse(&what, help);
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    Ok(digest)
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// `IP:port`; names would have to be resolved, and may change behind the operator's back.
pub(super) fn address(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let with_port = SocketAddr::new(ip, 8443);
        return refuse(
            "an address without a port",
            &format!("write \"{with_port}\""),
        );
    }
    // Only a number is repeated: nothing else of the value may reach a message.
    let number = |port: &str| port.parse::<u16>().ok();
    if let Some(port) = text.strip_prefix("localhost:").and_then(number) {
        let help = format!("write the IP address: \"127.0.0.1:{port}\"");
        return refuse("not an IP address and port", &help);
    }
    let wild = text.strip_prefix('*').unwrap_or(text);
    if let Some(port) = wild.strip_prefix(':').and_then(number) {
        let help = format!(
            "write \"0.0.0.0:{port}\" for all addresses, \"127.0.0.1:{port}\" for this machine only"
        );
        return refuse("not an IP address and port", &help);
    }
    refuse(
        "not an IP address and port",
        "write one such as \"127.0.0.1:8443\", \"0.0.0.0:8443\" or \"[::1]:8443\"",
    )
}

/// A browser origin, in the form in which browsers send it.
pub(super) fn origin(text: &str) -> Result<String, Refusal> {
    let help = "write scheme, host and port only, such as \"https://app.example.com\"";
    if text == "*" || text == "null" {
        return refuse("not one origin: each must be named", help);
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return refuse("not an origin", help);
    };
    let Some((scheme, host)) = web(&uri) else {
        return refuse("not an origin", help);
    };
    // `http` reads "https://a" and "https://a/" alike; browsers send the former.
    if text.matches('/').count() != 2 || uri.query().is_some() || text.contains('#') {
        return refuse("not an origin: it has a path", help);
    }
    let default = if scheme == "https" { 443 } else { 80 };
    Ok(match uri.port_u16().filter(|port| *port != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// The address under which clients know the gateway; an empty or `/` path is the root.
pub(super) fn public_url(text: &str) -> Result<Uri, Refusal> {
    let help = "write one such as \"https://mcp.example.com\"";
    let Ok(uri) = text.trim_end_matches('/').parse::<Uri>() else {
        return refuse("not a URL", help);
    };
    if web(&uri).is_none() {
        return refuse("not an http or https URL", help);
    }
    if uri.query().is_some() || text.contains('#') {
        return refuse("not a public URL: it has a query or a fragment", help);
    }
    Ok(uri)
}

/// Scheme and lower-case host of a web address without user information.
fn web(uri: &Uri) -> Option<(&'static str, String)> {
    let scheme = match uri.scheme_str()? {
        "https" => "https",
        "http" => "http",
        _ => return None,
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') || authority.as_str().ends_with(':') {
        return None;
    }
    let valid = match authority.as_str().strip_prefix(authority.host())? {
        "" => true,
        port => port.strip_prefix(':')?.parse::<u16>().is_ok_and(|p| p > 0),
    };
    let host = host(authority.host()).ok()?;
    valid.then_some((scheme, host))
}

/// A name or IP address as it stands in a `Host` header, without a port, in lower case.
pub(super) fn host(text: &str) -> Result<String, Refusal> {
    let help = "write a host name or IP address without scheme and port, such as \
                \"mcp.example.com\" or \"[::1]\"";
    if let Ok(ip) = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        return Ok(show_ip(ip));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return refuse("not a host name", help);
    }
    Ok(text.to_ascii_lowercase())
}

/// An IP address as it stands in a `Host` header.
pub(super) fn show_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests;
