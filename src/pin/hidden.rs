//! Characters that a person doesn't see and a model reads.
//!
//! Owns which characters count as hidden, and how they are shown. Invariant: what [`escape`] gives
//! can be printed on a terminal and read in one way.

/// What a hidden character is called; `None` for others.
///
/// `before` and `after` are its neighbours: joiners and one variation selector belong to emoji and
/// to some scripts, and say nothing between letters of ours.
#[must_use]
pub fn class(c: char, before: Option<char>, after: Option<char>) -> Option<&'static str> {
    let foreign = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && always(c).is_none());
    match c {
        '\u{200C}' | '\u{200D}' => {
            let selects =
                |c: Option<char>| c.is_some_and(|c| ('\u{FE00}'..='\u{FE0F}').contains(&c));
            let fits = (foreign(before) || selects(before)) && foreign(after);
            (!fits).then_some("zero-width joiner")
        }
        '\u{FE00}'..='\u{FE0F}' => {
            let keycap = before.is_some_and(|c| c.is_ascii_digit() || matches!(c, '#' | '*'));
            let fits = keycap || (foreign(before) && !is_selector(before));
            (!fits).then_some("variation selector")
        }
        _ => always(c),
    }
}

fn is_selector(c: Option<char>) -> bool {
    c.is_some_and(|c| matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}'))
}

fn always(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{E0000}'..='\u{E007F}' => "tag character",
        '\u{E0100}'..='\u{E01EF}' => "variation selector",
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{206F}' => "bidirectional control",
        '\u{200B}'
        | '\u{2060}'..='\u{2065}'
        | '\u{FEFF}'
        | '\u{00AD}'
        | '\u{034F}'
        | '\u{180B}'..='\u{180F}' => "zero-width character",
        '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{2800}' | '\u{3164}'
        | '\u{FFA0}' => "blank letter",
        '\u{2028}' | '\u{2029}' | '\u{FFF9}'..='\u{FFFB}' => "separator",
        '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}' => "private-use character",
        '\n' | '\t' => return None,
        c if c.is_control() => "control character",
        _ => return None,
    })
}

/// Each kind of hidden character in a text, with the first of it and their number.
#[must_use]
pub fn in_text(text: &str) -> Vec<String> {
    let mut found: Vec<(&'static str, char, usize)> = Vec::new();
    for (class, c) in hidden(text) {
        match found.iter_mut().find(|(known, ..)| *known == class) {
            Some((.., count)) => *count += 1,
            None => found.push((class, c, 1)),
        }
    }
    let tell = |(class, c, count): (&str, char, usize)| match count {
        1 => format!("{class} {}", code(c)),
        n => format!("{n} × {class}, the first {}", code(c)),
    };
    found.into_iter().map(tell).collect()
}

/// As [`in_text`], for the strings of canonical JSON, its keys included.
#[must_use]
pub(super) fn in_json(canonical: &[u8]) -> Vec<String> {
    // Escapes that are left stand for quotes, control characters and halves of pairs.
    let text = String::from_utf8_lossy(canonical);
    let mut plain = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let code = rest
            .get(at + 2..at + 6)
            .filter(|_| rest[at + 1..].starts_with('u'));
        let number = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        match (code, number.map(char::from_u32)) {
            (Some(_), Some(Some(c))) => plain.push(c),
            (Some(_), _) => plain.push('\u{FFF9}'),
            (None, _) => plain.push('"'),
        }
        let skip = if code.is_some() { 6 } else { 2 };
        rest = rest.get(at + skip..).unwrap_or_default();
    }
    plain.push_str(rest);
    // A carriage return is how some systems end a line.
    in_text(&plain.replace('\r', ""))
}

/// As [`in_text`], and letters that are not ASCII: a name can be made to look like another.
#[must_use]
pub(super) fn in_name(name: &str) -> Vec<String> {
    let mut found = in_text(name);
    if found.is_empty()
        && let Some(c) = name.chars().find(|c| !c.is_ascii())
    {
        found.push(format!("a name that is not ASCII: {}", code(c)));
    }
    found
}

/// The text with hidden characters, line breaks and tabs as `\u{…}`.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_control() || class(c, before, chars.peek().copied()).is_some() {
            out.push_str(&format!("\\u{{{:04X}}}", u32::from(c)));
        } else {
            out.push(c);
        }
        before = Some(c);
    }
    out
}

fn hidden(text: &str) -> impl Iterator<Item = (&'static str, char)> {
    let mut before = None;
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            let c = chars.next()?;
            let class = class(c, before.replace(c), chars.peek().copied());
            if let Some(class) = class {
                return Some((class, c));
            }
        }
    })
}

fn code(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::{escape, in_json, in_name, in_text};

    #[test]
    fn what_hides_is_found() {
        for hiding in [
            "a\u{E0041}\u{E0042}",
            "x\u{202E}y",
            "x\u{2066}y",
            "x\u{200B}y",
            "x\u{200D}y",
            "x\u{FEFF}",
            "x\u{FE0F}y",
            "😀\u{FE0F}\u{FE01}",
            "x\u{E0100}",
            "x\u{00AD}y",
            "\u{1b}[2J",
            "a\u{7f}",
            "\u{3164}",
            "a\u{2028}b",
            "\u{200D}",
            "x\u{F8FF}",
        ] {
            assert_eq!(in_text(hiding).len(), 1, "{hiding:?}");
            assert!(in_text(&escape(hiding)).is_empty(), "{hiding:?}");
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for plain in [
            "Reads a file.\n\tAll of it.",
            "Größe — naïve “quotes” …",
            "日本語",
            "العربية",
            "👨\u{200D}👩\u{200D}👧",
            "❤\u{FE0F}",
            "1\u{FE0F}\u{20E3}",
            "می\u{200C}خواهم",
            "❤\u{FE0F}\u{200D}🔥",
            "🇩🇪",
        ] {
            assert!(in_text(plain).is_empty(), "{plain:?}: {:?}", in_text(plain));
        }
        assert_eq!(escape("é ❤\u{FE0F}"), "é ❤\u{FE0F}");
        assert_eq!(escape("a\nb"), "a\\u{000A}b");
    }

    #[test]
    fn kinds_are_counted_and_json_is_read_through_its_escapes() {
        assert_eq!(
            in_text("\u{E0041}\u{E0042}x\u{202E}"),
            [
                "2 × tag character, the first U+E0041",
                "bidirectional control U+202E"
            ]
        );
        assert_eq!(
            in_json(br#"{"a":"\u001b[2J","b":"\\u200b \" \u000a"}"#),
            ["control character U+001B"]
        );
        assert_eq!(in_json(br#"{"a":"\ud800"}"#).len(), 1);
        assert_eq!(in_json("{\"\u{200B}a\":1}".as_bytes()).len(), 1);
        assert!(in_json(br#"{"a":"x\u000d\u000ay"}"#).is_empty());
        assert_eq!(in_name("reаd").len(), 1);
        assert!(in_name("read_file").is_empty());
    }
}
