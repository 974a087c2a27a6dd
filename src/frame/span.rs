//! Where the members stand.
//!
//! Owns offsets into a message. A span that ends at 0 is absent: no member ends there.

/// A range of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Offsets are at most [`MAX_LEN`], so nothing is lost.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: offset(start),
            end: offset(end),
        }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    pub(super) fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// The longest message that spans can describe, with room for what is spliced in.
pub(super) const MAX_LEN: usize = 1 << 31;

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A member that the gateway looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Version,
    Id,
    Method,
    Params,
    Result,
    Error,
    // From here on: inside `params`.
    Name,
    Uri,
    Arguments,
    Reference,
    Meta,
    Token,
    RequestId,
    ProtocolVersion,
    ElicitationId,
    InputResponses,
    RequestState,
    Task,
    // From here on: inside `params._meta`.
    MetaToken,
    MetaVersion,
    MetaCapabilities,
    MetaClientInfo,
    MetaLogLevel,
    MetaSubscription,
}

const PARTS: usize = Part::MetaSubscription as usize + 1;

/// One span for each [`Part`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spans([Span; PARTS]);

impl Spans {
    pub(super) fn get(&self, part: Part) -> Option<Span> {
        let span = self.0[part as usize];
        (span.end != 0).then_some(span)
    }

    pub(super) fn set(&mut self, part: Part, span: Span) {
        self.0[part as usize] = span;
    }

    pub(super) fn clear(&mut self, part: Part) {
        self.0[part as usize] = Span::default();
    }

    /// Forgets `params` and all that is in it.
    pub(super) fn clear_params(&mut self) {
        self.clear(Part::Params);
        self.0[Part::Name as usize..].fill(Span::default());
    }

    /// Changes each span that is there.
    pub(super) fn each(&mut self, change: impl Fn(Span) -> Span) {
        for span in self.0.iter_mut().filter(|span| span.end != 0) {
            *span = change(*span);
        }
    }

    /// Moves everything after a replacement, and stretches what encloses it.
    pub(super) fn shift(&mut self, replaced: Span, by: i64) {
        for span in &mut self.0 {
            if span.end < replaced.end {
                continue;
            }
            if span.start >= replaced.end {
                span.start = moved(span.start, by);
            }
            span.end = moved(span.end, by);
        }
    }
}

fn moved(at: u32, by: i64) -> u32 {
    u32::try_from(i64::from(at) + by).unwrap_or(u32::MAX)
}
