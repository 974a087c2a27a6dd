use super::*;

#[test]
fn durations_are_whole_numbers_with_units_largest_first() {
    for (text, millis) in [
        ("200ms", 200),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("1s500ms", 1_500),
        ("0s", 0),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "30",
        "s",
        "30 s",
        "-1s",
        "1.5s",
        "30m1h",
        "1s1s",
        "5 minutes",
        "1w",
        "30S",
        "99999999999999999999s",
        "18446744073709551615d",
        "٣s",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_are_whole_numbers_with_units() {
    for (text, bytes) in [
        ("4MiB", 4 << 20),
        ("1MB", 1_000_000),
        ("512KiB", 512 << 10),
        ("2GiB", 2 << 30),
        ("100B", 100),
        ("64", 64),
        ("4 MiB", 4 << 20),
        ("3kB", 3_000),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "MiB",
        "4Mib",
        "4 mb",
        "-4MiB",
        "4.5MiB",
        "99999999999GiB",
        "4M",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    for bytes in [1, 1023, 1024, 1025, 4 << 20, 3 << 30, 1_000_000] {
        assert_eq!(size(&show_size(bytes)), Ok(bytes));
    }
    for millis in [1, 999, 1000, 60_000, 90_000, 3_600_000, 86_400_000] {
        let duration_ = Duration::from_millis(millis);
        assert_eq!(duration(&show_duration(duration_)), Ok(duration_));
    }
}

#[test]
fn a_digest_is_read_in_either_case_and_a_key_is_recognised() {
    let digest = sha256(&"aF".repeat(32));
    assert_eq!(digest, Ok([0xaf; 32]));
    let short = sha256("abc").unwrap_err();
    assert!(short.message.contains("3 hex digits instead of 64"));
    let key = sha256("gh_Zm9vYmFyYmF6cXV4").unwrap_err();
    assert!(key.message.contains("the key itself"));
    assert!(!key.message.contains("Zm9v"));
}

#[test]
fn addresses_need_an_ip_and_a_port() {
    assert!(address("0.0.0.0:8443").is_ok());
    assert!(address("[::1]:0").is_ok());
    for (text, help) in [
        ("localhost:8443", "127.0.0.1:8443"),
        (":8443", "0.0.0.0:8443"),
        ("*:8443", "0.0.0.0:8443"),
        ("127.0.0.1", "127.0.0.1:8443"),
        ("::1", "[::1]:8443"),
        ("mcp.example.com:443", "127.0.0.1:8443"),
    ] {
        assert!(address(text).unwrap_err().help.contains(help), "{text}");
    }
}

#[test]
fn origins_are_what_browsers_send() {
    for (text, sent) in [
        ("https://app.example.com", "https://app.example.com"),
        ("https://APP.example.com:443", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
    ] {
        assert_eq!(origin(text).as_deref(), Ok(sent), "{text}");
    }
    for text in [
        "*",
        "null",
        "app.example.com",
        "https://",
        "https://a/",
        "https://a/x",
        "https://a?x",
        "ftp://a",
        "https://u@a",
        "https://a:0",
        "https://a:99999",
        "https://a:",
        "https://*.a",
        "https://a#x",
    ] {
        assert!(origin(text).is_err(), "{text}");
    }
}

#[test]
fn public_urls_may_have_a_path_but_no_query() {
    let show = |text: &str| public_url(text).map(|uri| uri.to_string());
    assert_eq!(
        show("https://mcp.example.com/x/"),
        Ok("https://mcp.example.com/x".to_owned())
    );
    assert!(show("https://mcp.example.com").is_ok());
    for text in [
        "mcp.example.com",
        "https://a?x=1",
        "https://a#x",
        "https://u:p@a",
        "/x",
        "",
    ] {
        assert!(public_url(text).is_err(), "{text}");
    }
}

#[test]
fn hosts_are_names_or_addresses_without_ports() {
    assert_eq!(host("MCP.Example.com").as_deref(), Ok("mcp.example.com"));
    assert_eq!(host("::1").as_deref(), Ok("[::1]"));
    assert_eq!(host("[::1]").as_deref(), Ok("[::1]"));
    for text in ["", "a:80", "https://a", "a/b", "*.a", "a..b", "-a", "a b"] {
        assert!(host(text).is_err(), "{text}");
    }
}
