//! A request's head, read line by line as it arrives (RFC 9112, 2 to 6).
//!
//! Stricter than the RFC asks wherever two readers could disagree on where a message ends.

use memchr::memchr;

use super::{body::Body, fault::Fault};

/// A head in the making. It keeps no bytes: they are handed in again, with more behind them.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the line begins that isn't complete yet.
    line: usize,
    /// Up to here no line end is left to find.
    searched: usize,
    begun: bool,
    empty_lines: u8,
    headers: usize,
    http10: bool,
    head_method: bool,
    host: bool,
    chunked: bool,
    length: Option<u64>,
}

/// A complete head that can be understood in one way only.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Its bytes, the empty line included.
    pub(super) len: usize,
    /// What follows.
    pub(super) body: Body,
    /// True for HEAD, whose response has no body.
    pub(super) head_method: bool,
}

impl Head {
    /// Looks at the bytes of the head so far, from its first on; `None`: more are needed.
    pub(super) fn advance(&mut self, bytes: &[u8], max: usize) -> Result<Option<Parsed>, Fault> {
        loop {
            let rest = bytes.get(self.searched..).unwrap_or_default();
            let Some(offset) = memchr(b'\n', rest) else {
                self.searched = bytes.len();
                return self.unfinished(bytes, max).map(|()| None);
            };
            let end = self.searched + offset;
            if end >= max {
                return Err(Fault::HeadTooLarge);
            }
            let line = bytes.get(self.line..end).unwrap_or_default();
            self.line = end + 1;
            self.searched = end + 1;
            let line = line.strip_suffix(b"\r").ok_or(Fault::LineEnd)?;
            match (line.is_empty(), self.begun) {
                (true, true) => return self.finish().map(Some),
                (true, false) => self.empty_line()?,
                (false, true) => self.header(line)?,
                (false, false) => self.request_line(line)?,
            }
        }
    }

    /// What can be said before a line is complete.
    fn unfinished(&self, bytes: &[u8], max: usize) -> Result<(), Fault> {
        if bytes.len() >= max {
            return Err(Fault::HeadTooLarge);
        }
        // A TLS handshake or other noise may never bring a line end: no need to wait for one.
        match bytes.get(self.line) {
            Some(&first) if !self.begun && first != b'\r' && !is_token(first) => {
                Err(Fault::RequestLine)
            }
            _ => Ok(()),
        }
    }

    /// Some old clients end a body with a line end too many (RFC 9112, 2.2).
    fn empty_line(&mut self) -> Result<(), Fault> {
        self.empty_lines += 1;
        if self.empty_lines > MAX_EMPTY_LINES {
            return Err(Fault::RequestLine);
        }
        Ok(())
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.begun = true;
        let space = memchr(b' ', line).ok_or(Fault::RequestLine)?;
        let (method, rest) = line.split_at(space);
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(Fault::RequestLine);
        }
        let rest = rest.get(1..).unwrap_or_default();
        let space = memchr(b' ', rest).ok_or(Fault::RequestLine)?;
        let (target, version) = rest.split_at(space);
        match version {
            b" HTTP/1.1" => {}
            b" HTTP/1.0" => self.http10 = true,
            _ if version.starts_with(b" HTTP/") && !version.contains(&b'\r') => {
                return Err(Fault::Version);
            }
            _ => return Err(Fault::RequestLine),
        }
        self.head_method = method == b"HEAD";
        is_target(target).then_some(()).ok_or(Fault::Target)
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(Fault::TooManyHeaders);
        }
        let (name, value) = field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let repeated = std::mem::replace(&mut self.host, true);
                (!repeated).then_some(()).ok_or(Fault::HostRepeated)?;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(value).ok_or(Fault::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(Fault::LengthRepeated);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let only = !std::mem::replace(&mut self.chunked, true);
                if self.http10 || !only || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Encoding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<Parsed, Fault> {
        let body = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Fault::LengthAndEncoding),
            (true, None) => Body::chunked(),
            (false, length) => Body::Length(length.unwrap_or(0)),
        };
        Ok(Parsed {
            len: self.line,
            body,
            head_method: self.head_method,
        })
    }
}

/// Name and value of a header or trailer line, without its line end.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::Folded);
    }
    let colon = line.iter().position(|&byte| !is_token(byte));
    let (name, value) = line.split_at(colon.ok_or(Fault::HeaderName)?);
    if name.is_empty() || value.first() != Some(&b':') {
        return Err(Fault::HeaderName);
    }
    // Without branches, so that the compiler makes it many bytes at a time.
    let control = value.iter().fold(false, |any, &byte| {
        any | ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f)
    });
    if control {
        return Err(Fault::Control);
    }
    Ok((name, trim(value.get(1..).unwrap_or_default())))
}

/// A value without the optional white space around it: SP and HTAB, nothing else.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// One decimal number, digits only: no sign, no list.
pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    // At most 18 digits, so that no sum of lengths can overflow either.
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0, |sum: u64, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

fn is_target(target: &[u8]) -> bool {
    let plain = target.first() == Some(&b'/') && target.iter().copied().all(is_plain);
    // What isn't an ordinary path is asked of the parser that hyper will ask.
    plain || (target.iter().all(u8::is_ascii_graphic) && http::Uri::try_from(target).is_ok())
}

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

/// RFC 9110, 5.6.2: what methods and header names are made of.
static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

/// RFC 3986: what path and query are made of.
static PLAIN: [bool; 256] = table(b"/-._~%?&=+:@!$'()*,;");

/// Letters, digits and some more: one look per byte, for there are hundreds in a head.
const fn table(more: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut rest = more;
    while let [byte, others @ ..] = rest {
        table[*byte as usize] = true;
        rest = others;
    }
    table
}

/// hyper takes as many by default.
pub(super) const MAX_HEADERS: usize = 100;

const MAX_EMPTY_LINES: u8 = 4;
