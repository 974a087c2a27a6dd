//! A walk over JSON that is known to be valid and compact: what a [`Frame`](crate::frame::Frame)
//! holds.
//!
//! Owns where strings, members and elements begin and end. It keeps no tree and copies nothing.
//! Invariant: on text that is no such JSON it yields less, and never panics.

/// Just after the string token that begins at `at`; `None` when it has no end.
pub(crate) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Just after the value that begins at `at`.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at),
        b'{' | b'[' => container_end(text, at),
        _ => {
            let rest = &text[at..];
            let end = rest.iter().position(|b| matches!(b, b',' | b'}' | b']'));
            Some(at + end.unwrap_or(rest.len()))
        }
    }
}

fn container_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The elements of an array, raw.
#[derive(Debug, Clone)]
pub(crate) struct Elements<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    pub(crate) fn of(array: &'a [u8]) -> Self {
        Self { text: array, at: 1 }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.text.get(self.at)? == &b']' {
            return None;
        }
        let end = value_end(self.text, self.at)?;
        let value = self.text.get(self.at..end)?;
        self.at = end + usize::from(self.text.get(end) == Some(&b','));
        (!value.is_empty()).then_some(value)
    }
}

/// The members of an object: key token and value, raw.
#[derive(Debug, Clone)]
pub(crate) struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    pub(crate) fn of(object: &'a [u8]) -> Self {
        Self {
            text: object,
            at: 1,
        }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        if self.text.get(self.at)? != &b'"' {
            return None;
        }
        let key_end = string_end(self.text, self.at)?;
        let key = self.text.get(self.at..key_end)?;
        let end = value_end(self.text, key_end + 1)?;
        let value = self.text.get(key_end + 1..end)?;
        self.at = end + usize::from(self.text.get(end) == Some(&b','));
        (!value.is_empty()).then_some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::{Elements, Members};

    #[test]
    fn members_and_elements_are_what_stands_there() {
        let object = br#"{"a":1,"b\"":{"c":[1,"]"]},"d":"}","e":[],"f":null}"#;
        let members: Vec<_> = Members::of(object)
            .map(|(key, value)| {
                let text = |raw| std::str::from_utf8(raw).unwrap();
                (text(key), text(value))
            })
            .collect();
        let wanted = [
            (r#""a""#, "1"),
            (r#""b\"""#, r#"{"c":[1,"]"]}"#),
            (r#""d""#, r#""}""#),
            (r#""e""#, "[]"),
            (r#""f""#, "null"),
        ];
        assert_eq!(members, wanted);
        let elements: Vec<_> = Elements::of(br#"[[],{"a":"]"},"x,y",1.5e3,true]"#).collect();
        let wanted: [&[u8]; 5] = [b"[]", br#"{"a":"]"}"#, br#""x,y""#, b"1.5e3", b"true"];
        assert_eq!(elements, wanted);
        assert_eq!(Elements::of(b"[]").count() + Members::of(b"{}").count(), 0);
    }

    #[test]
    fn text_that_is_not_json_ends_the_walk() {
        for text in [
            "", "[", "{", "[,", "{\"", "{\"a", "{\"a\"", "{\"a\":", "[}", "[\"\\",
        ] {
            assert!(Elements::of(text.as_bytes()).count() < 3, "{text}");
            assert!(Members::of(text.as_bytes()).count() < 3, "{text}");
        }
    }
}
