//! What a connection can do wrong, and the fixed answers to it.

use std::{error::Error, io};

/// Why a connection was refused or ended; the texts are fixed and safe for log and peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The request line isn't `METHOD SP target SP HTTP/1.x`.
    #[error("the request line is malformed")]
    RequestLine,
    /// The version isn't 1.0 or 1.1.
    #[error("the HTTP version is not supported here")]
    Version,
    /// The target isn't a URI.
    #[error("the request target is malformed")]
    Target,
    /// A line ends with LF alone.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// NUL, a lone CR or another control character.
    #[error("a header holds a control character")]
    Control,
    /// No colon, nothing before it, or something before it that is no token, such as a space.
    #[error("a header name is malformed")]
    HeaderName,
    /// A header goes on on the next line.
    #[error("a header is folded over lines")]
    Folded,
    /// Content-Length isn't one decimal number.
    #[error("Content-Length is malformed")]
    Length,
    /// More than one Content-Length.
    #[error("Content-Length is repeated")]
    LengthRepeated,
    /// Content-Length and Transfer-Encoding.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndEncoding,
    /// Transfer-Encoding isn't exactly one `chunked`, or stands in HTTP/1.0.
    #[error("the Transfer-Encoding is not supported")]
    Encoding,
    /// More than one Host.
    #[error("Host is repeated")]
    HostRepeated,
    /// A chunk size, its extension or its end is malformed.
    #[error("the chunked encoding is malformed")]
    Chunk,
    /// The head is larger than it may be.
    #[error("the header section is too large")]
    HeadTooLarge,
    /// There are more headers than there may be.
    #[error("there are too many headers")]
    TooManyHeaders,
    /// The head wasn't complete in time.
    #[error("the request head took too long")]
    HeadTimeout,
    /// The body wasn't complete in time.
    #[error("the request body took too long")]
    BodyTimeout,
    /// The peer took none of the bytes waiting for it.
    #[error("the client stopped reading")]
    WriteStall,
}

impl Fault {
    /// The fault inside an error that hyper handed on, if there is one.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<Self>() {
                return Some(*fault);
            }
            // An io::Error shows its inner error's source, not the inner error itself.
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
                .and_then(|inner| inner.downcast_ref::<Self>());
            if let Some(fault) = inner {
                return Some(*fault);
            }
            next = error.source();
        }
        None
    }

    /// Status and code of the answer to a head with this fault; `None` for what is wrong with a
    /// body or a reader, which others answer.
    pub(in crate::http) fn outline(self) -> Option<(u16, &'static str)> {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => Some((431, "headers_too_large")),
            Self::HeadTimeout => Some((408, "request_timeout")),
            Self::Version => Some((505, "bad_request")),
            Self::Chunk | Self::BodyTimeout | Self::WriteStall => None,
            _ => Some((400, "bad_request")),
        }
    }

    /// The whole answer to a head with this fault; the connection ends behind it.
    pub(super) fn response(self) -> Vec<u8> {
        let (status, code) = match self {
            Self::HeadTooLarge | Self::TooManyHeaders => {
                ("431 Request Header Fields Too Large", "headers_too_large")
            }
            Self::HeadTimeout | Self::BodyTimeout => ("408 Request Timeout", "request_timeout"),
            Self::Version => ("505 HTTP Version Not Supported", "bad_request"),
            _ => ("400 Bad Request", "bad_request"),
        };
        let body = format!(r#"{{"error":"{code}","message":"{self}"}}"#);
        format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: application/json\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             Connection: close\r\n\
             \r\n\
             {body}",
            body.len()
        )
        .into_bytes()
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::HeadTimeout | Fault::BodyTimeout | Fault::WriteStall => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, fault)
    }
}
