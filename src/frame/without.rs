//! Removing members in place.
//!
//! Owns the other edit of a message that passes through: whole members are cut out. Invariant: what
//! is left is the bytes that came, and still compact JSON.

use bytes::{Bytes, BytesMut};

use super::{
    Frame,
    span::{Part, Span, Spans},
};

/// What can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    /// `params.inputResponses`.
    InputResponses,
    /// `params.requestState`.
    RequestState,
    /// `params.task`.
    Task,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`.
    MetaVersion,
    /// `params._meta["io.modelcontextprotocol/clientCapabilities"]`.
    MetaCapabilities,
    /// `params._meta["io.modelcontextprotocol/clientInfo"]`.
    MetaClientInfo,
    /// `params._meta["io.modelcontextprotocol/logLevel"]`.
    MetaLogLevel,
    /// `params._meta["io.modelcontextprotocol/subscriptionId"]`.
    MetaSubscription,
}

impl Member {
    fn part(self) -> Part {
        match self {
            Self::InputResponses => Part::InputResponses,
            Self::RequestState => Part::RequestState,
            Self::Task => Part::Task,
            Self::MetaVersion => Part::MetaVersion,
            Self::MetaCapabilities => Part::MetaCapabilities,
            Self::MetaClientInfo => Part::MetaClientInfo,
            Self::MetaLogLevel => Part::MetaLogLevel,
            Self::MetaSubscription => Part::MetaSubscription,
        }
    }
}

impl Frame {
    /// The message without these members, as far as it has them.
    #[must_use]
    pub fn without(&self, members: &[Member]) -> Self {
        let mut values: Vec<Span> = members
            .iter()
            .filter_map(|member| self.spans.get(member.part()))
            .collect();
        if values.is_empty() {
            return self.clone();
        }
        values.sort_unstable_by_key(|span| span.start);
        values.dedup();
        let cuts = cuts(&self.bytes, &values);
        let mut out = BytesMut::with_capacity(self.bytes.len());
        let mut copied = 0;
        for cut in &cuts {
            out.extend_from_slice(&self.bytes[copied..cut.start as usize]);
            copied = cut.end as usize;
        }
        out.extend_from_slice(&self.bytes[copied..]);
        let mut spans = self.spans;
        spans.cut(&cuts);
        Self {
            bytes: out.freeze(),
            spans,
            kind: self.kind,
            method: self.method.clone(),
        }
    }
}

/// What goes with each value: its key, and the comma that would be left over.
fn cuts(bytes: &Bytes, values: &[Span]) -> Vec<Span> {
    let mut cuts: Vec<Span> = Vec::with_capacity(values.len());
    for value in values {
        let mut start = key_start(bytes, value.start as usize);
        let mut end = value.end as usize;
        if bytes.get(end) == Some(&b',') {
            end += 1;
        } else {
            // The last of its object: the comma before it goes, which may stand before others that
            // go too.
            while let Some(last) = cuts.last().filter(|last| last.end as usize == start) {
                start = last.start as usize;
                cuts.pop();
            }
            if start > 0 && bytes[start - 1] == b',' {
                start -= 1;
            }
        }
        cuts.push(Span::new(start, end));
    }
    cuts
}

/// Where the key of the value at `start` begins. A known key has no quote in it, escaped or not.
fn key_start(bytes: &[u8], start: usize) -> usize {
    let closing = start.saturating_sub(2);
    memchr::memrchr(b'"', &bytes[..closing]).unwrap_or(start)
}

impl Spans {
    /// Moves everything after what was cut out; what was inside is forgotten.
    fn cut(&mut self, cuts: &[Span]) {
        self.each(|span| {
            if cuts
                .iter()
                .any(|cut| cut.start <= span.start && span.end <= cut.end)
            {
                return Span::default();
            }
            let removed = |at: u32| {
                let before = cuts.iter().filter(|cut| cut.end <= at);
                before.map(|cut| cut.end - cut.start).sum::<u32>()
            };
            Span {
                start: span.start - removed(span.start),
                end: span.end - removed(span.end),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Member;
    use crate::frame::Frame;
    use bytes::Bytes;

    const ALL: [Member; 7] = [
        Member::InputResponses,
        Member::RequestState,
        Member::MetaVersion,
        Member::MetaCapabilities,
        Member::MetaClientInfo,
        Member::MetaLogLevel,
        Member::MetaSubscription,
    ];

    fn stripped(text: &str) -> Frame {
        let frame = Frame::from_client(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        frame.without(&ALL)
    }

    #[test]
    fn members_go_wherever_they_stand_and_the_rest_stays_located() {
        let v = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
        let c = r#""io.modelcontextprotocol/clientCapabilities":{"a":[1,"}"]}"#;
        let l = r#""io.modelcontextprotocol/logLevel":"info""#;
        let metas = [
            (format!("{{{v},{c},{l}}}"), "{}"),
            (format!("{{{v},\"x\":1,{c}}}"), r#"{"x":1}"#),
            (format!("{{\"x\":1,{v},{c},{l}}}"), r#"{"x":1}"#),
            (format!("{{{v},{c},\"x\":1,\"y\":2}}"), r#"{"x":1,"y":2}"#),
            (format!("{{\"x\":1,{v},\"y\":2,{l}}}"), r#"{"x":1,"y":2}"#),
            (
                format!("{{{v},\"progressToken\":7}}"),
                r#"{"progressToken":7}"#,
            ),
        ];
        for (meta, left) in metas {
            for (params, rest) in [
                (
                    format!(
                        r#"{{"_meta":{meta},"name":"n","requestState":"s","inputResponses":{{"a":{{}}}}}}"#
                    ),
                    format!(r#"{{"_meta":{left},"name":"n"}}"#),
                ),
                (
                    format!(
                        r#"{{"requestState":"s","name":"n","arguments":{{"requestState":1}},"_meta":{meta}}}"#
                    ),
                    format!(r#"{{"name":"n","arguments":{{"requestState":1}},"_meta":{left}}}"#),
                ),
            ] {
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"tools/call","params":{params},"id":5}}"#
                );
                let frame = stripped(&text);
                let wanted =
                    format!(r#"{{"jsonrpc":"2.0","method":"tools/call","params":{rest},"id":5}}"#);
                assert_eq!(std::str::from_utf8(frame.bytes()).unwrap(), wanted);
                let again = Frame::from_client(frame.bytes().clone()).unwrap();
                assert_eq!(frame.spans, again.spans, "{wanted}");
                assert_eq!(frame.id(), Some(&b"5"[..]));
            }
        }
    }

    #[test]
    fn a_key_that_is_written_with_escapes_goes_too() {
        let frame = stripped(
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\"","request\u0053tate":"\\\""}}"#,
        );
        assert_eq!(
            &frame.bytes()[..],
            br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\""}}"#
        );
    }

    #[test]
    fn a_message_that_has_none_stays() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1}}"#;
        assert_eq!(&stripped(text).bytes()[..], text.as_bytes());
    }
}
