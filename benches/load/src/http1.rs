//! An HTTP/1.1 client connection as small as the load needs: one exchange at a time, kept alive.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{Endpoint, Io};

/// The head of an answer.
#[derive(Debug, Default, Clone)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// Whether the body is an event stream.
    pub events: bool,
    /// Whether the server will close.
    close: bool,
    framing: Framing,
}

/// How the rest of a body is framed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Framing {
    #[default]
    Done,
    /// Bytes to come.
    Length(usize),
    /// Bytes to come of the chunk at hand, its line end included; 0: a size line comes next.
    Chunk(usize),
    /// Trailers come next.
    Trailers,
    UntilClose,
}

/// An open connection.
pub struct Connection {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    at: usize,
    framing: Framing,
    close: bool,
}

const READ: usize = 16 * 1024;
const READ_MAX: usize = 256 * 1024;
const MAX_HEADERS: usize = 48;

impl Connection {
    /// Connects to `endpoint`.
    ///
    /// # Errors
    /// What the socket or the handshake says.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let io = endpoint.connect().await?;
        Ok(Self {
            io,
            buffer: Vec::new(),
            at: 0,
            framing: Framing::Done,
            close: false,
        })
    }

    /// Sends `request`, head and body in one write, and reads the head of the answer.
    ///
    /// # Errors
    /// The connection broke, or what came isn't HTTP/1.1.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Head> {
        self.io.write_all(request).await?;
        self.io.flush().await?;
        loop {
            if let Some((head, length)) = parse_head(&self.buffer[self.at..])? {
                self.at += length;
                self.framing = head.framing;
                self.close = head.close || head.framing == Framing::UntilClose;
                return Ok(head);
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads the rest of the body onto `body`.
    ///
    /// # Errors
    /// The connection broke inside the body.
    pub async fn finish(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        while self.part(body).await? {}
        Ok(())
    }

    /// Reads what is there of the body onto `body`; false at its end.
    ///
    /// # Errors
    /// The connection broke inside the body, or its framing is broken.
    pub async fn part(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let before = body.len();
        loop {
            self.take(body)?;
            if self.framing == Framing::Done {
                return Ok(body.len() > before);
            }
            if body.len() > before {
                return Ok(true);
            }
            if self.fill().await? == 0 {
                if self.framing == Framing::UntilClose {
                    self.framing = Framing::Done;
                    return Ok(false);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether another exchange may follow on this connection.
    #[must_use]
    pub fn reusable(&self) -> bool {
        self.framing == Framing::Done && !self.close
    }

    /// Moves body bytes out of the buffer as far as the framing is known.
    fn take(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let rest = &self.buffer[self.at..];
            match self.framing {
                Framing::Done => return Ok(()),
                Framing::UntilClose => {
                    body.extend_from_slice(rest);
                    self.at = self.buffer.len();
                    return Ok(());
                }
                Framing::Length(left) => {
                    let size = left.min(rest.len());
                    body.extend_from_slice(&rest[..size]);
                    self.at += size;
                    let left = left - size;
                    self.framing = if left == 0 {
                        Framing::Done
                    } else {
                        Framing::Length(left)
                    };
                    return Ok(());
                }
                Framing::Chunk(left) if left > 0 => {
                    if rest.is_empty() {
                        return Ok(());
                    }
                    let size = left.min(rest.len());
                    // The last two bytes of a chunk are its line end.
                    let content = size.min(left.saturating_sub(2));
                    body.extend_from_slice(&rest[..content]);
                    self.at += size;
                    self.framing = Framing::Chunk(left - size);
                }
                Framing::Chunk(_) => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Partial) => return Ok(()),
                    Ok(httparse::Status::Complete((length, size))) => {
                        self.at += length;
                        let size = usize::try_from(size).map_err(io::Error::other)?;
                        self.framing = if size == 0 {
                            Framing::Trailers
                        } else {
                            Framing::Chunk(size + 2)
                        };
                    }
                    Err(_) => return Err(io::ErrorKind::InvalidData.into()),
                },
                Framing::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        return Ok(());
                    };
                    self.at += end + 1;
                    if rest[..end].trim_ascii().is_empty() {
                        self.framing = Framing::Done;
                    }
                }
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        } else if self.at > READ {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        // A long body is read in long pieces.
        let expected = match self.framing {
            Framing::Length(left) | Framing::Chunk(left) => left,
            Framing::Done | Framing::Trailers | Framing::UntilClose => 0,
        };
        self.buffer.reserve(expected.clamp(READ, READ_MAX));
        self.io.read_buf(&mut self.buffer).await
    }
}

/// The head at the front of `bytes` and its length, `None` while it isn't whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut head = Head {
        status: response.code.unwrap_or(0),
        ..Head::default()
    };
    let empty = matches!(head.status, 100..=199 | 204 | 304);
    head.framing = if empty {
        Framing::Done
    } else {
        Framing::UntilClose
    };
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        if header.name.eq_ignore_ascii_case("content-length") {
            let size = value.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            head.framing = if size == 0 {
                Framing::Done
            } else {
                Framing::Length(size)
            };
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunk(0);
        } else if header.name.eq_ignore_ascii_case("content-type") {
            head.events = value.starts_with("text/event-stream");
        } else if header.name.eq_ignore_ascii_case("mcp-session-id") {
            head.session = Some(value.into_owned());
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.close = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some((head, length)))
}

/// Writes a request over what `into` holds. `fixed` is the request line and the headers that don't
/// change, each with its line end.
pub fn write_request(into: &mut Vec<u8>, fixed: &[u8], body: &[u8]) {
    into.clear();
    into.extend_from_slice(fixed);
    into.extend_from_slice(b"Content-Length: ");
    into.extend_from_slice(body.len().to_string().as_bytes());
    into.extend_from_slice(b"\r\n\r\n");
    into.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::{Connection, Framing};

    /// A connection that reads `text` in pieces of `size` bytes.
    fn reading(text: &'static [u8], size: usize) -> Connection {
        let mut builder = tokio_test_io(text, size);
        builder.framing = Framing::Done;
        builder
    }

    fn tokio_test_io(text: &'static [u8], size: usize) -> Connection {
        let (mut near, far) = tokio::io::duplex(size);
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 1];
            near.read_exact(&mut request).await.unwrap();
            near.write_all(text).await.unwrap();
            near.shutdown().await.unwrap();
        });
        let io = Box::new(far);
        Connection {
            io,
            buffer: Vec::new(),
            at: 0,
            framing: Framing::Done,
            close: false,
        }
    }

    #[tokio::test]
    async fn chunked_and_counted_bodies_read_the_same_at_every_cut() {
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nMcp-Session-Id: s1\r\n\
            Content-Type: text/event-stream\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: 1\r\n\r\n";
        let counted: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg";
        for size in 1..40 {
            for text in [chunked, counted] {
                let mut connection = reading(text, size);
                let head = connection.exchange(b"x").await.unwrap();
                let mut body = Vec::new();
                connection.finish(&mut body).await.unwrap();
                assert_eq!((head.status, &body[..]), (200, &b"abcdefg"[..]));
                assert_eq!(head.events, text == chunked);
                assert!(connection.reusable());
            }
        }
    }

    #[tokio::test]
    async fn a_body_cut_short_is_an_error() {
        let mut connection = reading(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc", 64);
        connection.exchange(b"x").await.unwrap();
        assert!(connection.finish(&mut Vec::new()).await.is_err());
    }
}
