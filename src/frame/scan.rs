//! The scanner: one pass over the bytes of a message.
//!
//! Owns the grammar of JSON and finds the members that the gateway looks at. It must never know
//! what a message means (that is `shape`) and keeps no tree. Invariant: memory and stack do not
//! depend on nesting; only the three levels of [`Level`] are functions that call each other,
//! everything below is one loop.

use super::{
    FrameError,
    keys::{ARRAY, Level, Meaning, Scratch},
    lex,
    span::{Part, Span, Spans},
};

/// How strict to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Read as a client's message: the shape is strict too.
    pub(super) client: bool,
    /// Keys must differ in every object, not only in the envelope.
    pub(super) unique: bool,
    /// Half a surrogate pair may stand in a string.
    pub(super) lone: bool,
    /// Nesting of arrays and objects.
    pub(super) depth: usize,
}

impl Rules {
    /// What comes from a client.
    pub(super) const CLIENT: Self = Self {
        client: true,
        unique: true,
        lone: false,
        depth: 128,
    };

    /// What comes from a child.
    pub(super) const CHILD: Self = Self {
        client: false,
        unique: false,
        lone: true,
        depth: 1024,
    };

    /// For a text that was already found right and was made compact since.
    pub(super) fn again(self) -> Self {
        Self {
            unique: false,
            ..self
        }
    }
}

/// What a pass found.
#[derive(Debug)]
pub(super) struct Outline {
    /// The members of the envelope, `params` and `_meta`.
    pub(super) spans: Spans,
    /// There is whitespace between tokens.
    pub(super) loose: bool,
}

/// Reads one object as an envelope.
pub(super) fn envelope(text: &[u8], rules: Rules) -> Result<Outline, FrameError> {
    run(text, rules, |scan| scan.members(Level::Envelope))
}

/// Reads one JSON value of any kind.
pub(super) fn anything(text: &[u8], rules: Rules) -> Result<(), FrameError> {
    run(text, rules, |scan| scan.value().map(drop)).map(drop)
}

/// Reads an array and gives where its elements stand, at most `max` of them.
pub(super) fn elements(text: &[u8], max: usize, rules: Rules) -> Result<Vec<Span>, FrameError> {
    let mut found = Vec::new();
    run(text, rules, |scan| scan.elements(max, &mut found))?;
    Ok(found)
}

fn run(
    text: &[u8],
    rules: Rules,
    read: impl FnOnce(&mut Scan<'_>) -> Result<(), FrameError>,
) -> Result<Outline, FrameError> {
    Scratch::with(|scratch| {
        let mut scan = Scan {
            text,
            at: 0,
            rules,
            spans: Spans::default(),
            loose: false,
            scratch,
        };
        read(&mut scan)?;
        scan.token();
        if scan.at < text.len() {
            return Err(FrameError::NotJson);
        }
        Ok(Outline {
            spans: scan.spans,
            loose: scan.loose,
        })
    })
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    rules: Rules,
    spans: Spans,
    loose: bool,
    scratch: &'a mut Scratch,
}

impl From<lex::Malformed> for FrameError {
    fn from(_: lex::Malformed) -> Self {
        Self::NotJson
    }
}

impl Scan<'_> {
    /// Reads an object whose members are looked at.
    fn members(&mut self, level: Level) -> Result<(), FrameError> {
        if self.token() != b'{' {
            return Err(FrameError::NotJson);
        }
        let outer = self.scratch.open.len();
        let mut more = self.open_object()?;
        while more {
            self.member(level)?;
            more = match self.token() {
                b',' => true,
                b'}' => false,
                _ => return Err(FrameError::NotJson),
            };
            self.at += 1;
        }
        if self.scratch.open.len() > outer {
            self.close()?;
        }
        Ok(())
    }

    fn member(&mut self, level: Level) -> Result<(), FrameError> {
        let part = self.known_key(level)?;
        let start = match part.and_then(|part| level.inside(part)) {
            Some(inside) if self.token() == b'{' => {
                let start = self.at;
                self.members(inside)?;
                start
            }
            _ => self.value()?,
        };
        let Some(part) = part else { return Ok(()) };
        if self.spans.get(part).is_some() {
            return Err(FrameError::DuplicateKey);
        }
        self.spans.set(part, Span::new(start, self.at));
        Ok(())
    }

    /// Reads a key and its colon at a level whose keys are looked at.
    fn known_key(&mut self, level: Level) -> Result<Option<Part>, FrameError> {
        let token = self.key_token()?;
        let key = self.scratch.key(self.text, token);
        let text = self.scratch.text(self.text, key);
        let part = match level.meaning(text) {
            Meaning::Known(part) => Some(part),
            Meaning::Reserved => None,
            Meaning::Unknown => {
                // A child's own parameters are not a way around a check; its envelope decides
                // where the message goes.
                let guarded = self.rules.client || level == Level::Envelope;
                if guarded && level.is_look_alike(text) {
                    return Err(FrameError::AmbiguousKey);
                }
                None
            }
        };
        if self.rules.unique || level == Level::Envelope {
            self.scratch.push(key);
        }
        Ok(part)
    }

    /// Reads a key and its colon anywhere else.
    #[inline]
    fn key(&mut self) -> Result<(), FrameError> {
        let token = self.key_token()?;
        if self.rules.unique {
            let key = self.scratch.key(self.text, token);
            self.scratch.push(key);
        }
        Ok(())
    }

    #[inline]
    fn key_token(&mut self) -> Result<lex::Text, FrameError> {
        if self.token() != b'"' {
            return Err(FrameError::NotJson);
        }
        let token = lex::string(self.text, self.at, self.rules.lone)?;
        self.at = token.end + 1;
        if self.token() != b':' {
            return Err(FrameError::NotJson);
        }
        self.at += 1;
        Ok(token)
    }

    /// Reads a value of any kind and gives where it began; `at` is then its end.
    fn value(&mut self) -> Result<usize, FrameError> {
        let outer = self.scratch.open.len();
        let first = self.token();
        let start = self.at;
        let mut next = first;
        loop {
            let entered = match next {
                b'{' => self.open_object()? && self.key().map(|()| true)?,
                b'[' => self.open_array()?,
                _ => self.scalar(next)?,
            };
            if !entered && self.finish(outer)? {
                return Ok(start);
            }
            next = self.token();
        }
    }

    /// After a value: passes closing brackets, or the comma (and key) before the next value. True
    /// when everything down to `outer` is closed.
    #[inline]
    fn finish(&mut self, outer: usize) -> Result<bool, FrameError> {
        while self.scratch.open.len() > outer {
            let in_array = self.scratch.open.last() == Some(&ARRAY);
            let token = self.token();
            self.at += 1;
            match (token, in_array) {
                (b',', true) => return Ok(false),
                (b',', false) => return self.key().map(|()| false),
                (b']', true) | (b'}', false) => self.close()?,
                _ => return Err(FrameError::NotJson),
            }
        }
        Ok(true)
    }

    /// Reads a scalar; false, as nothing was entered.
    #[inline]
    fn scalar(&mut self, first: u8) -> Result<bool, FrameError> {
        self.at = match first {
            b'"' => lex::string(self.text, self.at, self.rules.lone)?.end + 1,
            b'-' | b'0'..=b'9' => lex::number(self.text, self.at)?,
            _ => lex::literal(self.text, self.at)?,
        };
        Ok(false)
    }

    /// Enters an object; false when it was empty and is closed again.
    fn open_object(&mut self) -> Result<bool, FrameError> {
        let mark = self.scratch.mark();
        self.open(mark, b'}')
    }

    fn open_array(&mut self) -> Result<bool, FrameError> {
        self.open(ARRAY, b']')
    }

    #[inline]
    fn open(&mut self, mark: u32, closing: u8) -> Result<bool, FrameError> {
        if self.scratch.open.len() == self.rules.depth {
            return Err(FrameError::TooDeep);
        }
        self.at += 1;
        if self.token() == closing {
            self.at += 1;
            return Ok(false);
        }
        self.scratch.open.push(mark);
        Ok(true)
    }

    #[inline]
    fn close(&mut self) -> Result<(), FrameError> {
        match self.scratch.open.pop() {
            Some(ARRAY) | None => Ok(()),
            Some(mark) if self.scratch.close(self.text, mark) => Ok(()),
            Some(_) => Err(FrameError::DuplicateKey),
        }
    }

    fn elements(&mut self, max: usize, found: &mut Vec<Span>) -> Result<(), FrameError> {
        if self.token() != b'[' {
            return Err(FrameError::NotJson);
        }
        if !self.open_array()? {
            return Err(FrameError::NotMessage);
        }
        loop {
            if found.len() == max {
                return Err(FrameError::NotMessage);
            }
            let start = self.value()?;
            found.push(Span::new(start, self.at));
            let token = self.token();
            self.at += 1;
            match token {
                b',' => {}
                b']' => return Ok(()),
                _ => return Err(FrameError::NotJson),
            }
        }
    }

    /// The byte at which the next token begins; 0, which begins none, at the end of the text.
    #[inline]
    fn token(&mut self) -> u8 {
        let byte = self.byte();
        if byte > b' ' { byte } else { self.blank() }
    }

    #[inline]
    fn byte(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[cold]
    fn blank(&mut self) -> u8 {
        while let b' ' | b'\t' | b'\n' | b'\r' = self.byte() {
            self.at += 1;
            self.loose = true;
        }
        self.byte()
    }
}
