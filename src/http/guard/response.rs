//! The end of each response, read off the bytes that hyper writes.

use memchr::memchr_iter;

use super::{
    body::Body,
    head::{decimal, field},
};

/// Follows the responses on a connection; what it reads is hyper's, so it is well-formed.
#[derive(Debug, Default)]
pub(super) struct Response {
    at: At,
    /// The head so far, when a write cut it.
    partial: Vec<u8>,
    /// The response to HEAD has a head only.
    bodiless: bool,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Head,
    Body(Body),
}

impl Response {
    /// The next response is that of a request with this method.
    pub(super) fn expect(&mut self, head_method: bool) {
        self.bodiless = head_method;
    }

    /// Bytes were sent; true when a final response ended in them.
    pub(super) fn sent(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            bytes = match &mut self.at {
                At::Head => {
                    let Some((head, rest)) = self.head(bytes) else {
                        return ended;
                    };
                    ended |= head;
                    rest
                }
                At::Body(body) => {
                    // A response that can't be followed never ends, so no request comes behind it.
                    let used = body.advance(bytes).unwrap_or_else(|_| {
                        *body = Body::UntilClose;
                        bytes.len()
                    });
                    if body.is_done() {
                        self.at = At::Head;
                        ended = true;
                    }
                    bytes.get(used..).unwrap_or_default()
                }
            };
        }
        ended
    }

    /// Goes over a head: whether the response ended with it, and what follows.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> Option<(bool, &'a [u8])> {
        let before = self.partial.len();
        if before == 0 {
            let Some(len) = head_len(bytes) else {
                self.partial.extend_from_slice(bytes);
                return None;
            };
            let (head, rest) = bytes.split_at_checked(len)?;
            let ended = self.enter(body_of(head, self.bodiless));
            return Some((ended, rest));
        }
        self.partial.extend_from_slice(bytes);
        let len = head_len(&self.partial)?;
        let body = body_of(self.partial.get(..len)?, self.bodiless);
        self.partial = Vec::new();
        let ended = self.enter(body);
        Some((ended, bytes.get(len - before..).unwrap_or_default()))
    }

    /// Goes on behind a head; true when nothing follows. `None`: it was an interim response.
    fn enter(&mut self, body: Option<Body>) -> bool {
        match body {
            None => false,
            Some(body) if body.is_done() => true,
            Some(body) => {
                self.at = At::Body(body);
                false
            }
        }
    }
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes)
        .find(|&at| {
            bytes
                .get(..at)
                .is_some_and(|head| head.ends_with(b"\r\n\r"))
        })
        .map(|at| at + 1)
}

/// What follows a response head; `None` when another head does (1xx).
fn body_of(head: &[u8], bodiless: bool) -> Option<Body> {
    let mut body = Body::UntilClose;
    let mut start = 0;
    for end in memchr_iter(b'\n', head) {
        let line = head.get(start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let first = start == 0;
        start = end + 1;
        if first {
            match line.get(9..12) {
                Some([b'1', ..]) => return None,
                Some(b"204" | b"304") => return Some(Body::Length(0)),
                _ if bodiless => return Some(Body::Length(0)),
                _ => continue,
            }
        }
        // Only these two are of interest; the other names begin with other letters or are short.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            continue;
        }
        match field(line) {
            Ok((name, value)) if name.eq_ignore_ascii_case(b"content-length") => {
                body = decimal(value).map_or(Body::UntilClose, Body::Length);
            }
            Ok((name, _)) if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                body = Body::chunked();
            }
            _ => {}
        }
    }
    Some(body)
}
