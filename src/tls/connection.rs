//! The handshake, and what comes out of it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use rustls::{Error as RustlsError, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant, timeout_at},
};
use tokio_rustls::server::TlsStream;

use super::Acceptor;

/// The version of HTTP that client and gateway agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also without TLS and for clients without ALPN.
    H1,
    /// HTTP/2.
    H2,
}

/// Why there is no connection; the texts are fixed or rustls's own.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The deadline passed.
    #[error("the handshake took too long")]
    Timeout,
    /// The peer spoke something else than TLS; an HTTP client was told so.
    #[error("the client does not speak TLS")]
    Plaintext,
    /// The peer went away.
    #[error("the client went away during the handshake")]
    Closed,
    /// The peers can't agree, or the client doesn't like the certificate.
    #[error("the handshake failed: {0}")]
    Tls(RustlsError),
    /// The socket failed.
    #[error("the socket failed during the handshake: {0}")]
    Io(io::Error),
}

impl HandshakeError {
    /// True when the client's certificate is to blame, or that there was none.
    #[must_use]
    pub fn is_of_certificate(&self) -> bool {
        matches!(
            self,
            Self::Tls(RustlsError::InvalidCertificate(_) | RustlsError::NoCertificatesPresented)
        )
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted => {
                return Self::Closed;
            }
            _ => {}
        }
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<RustlsError>())
        {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Io(error),
        }
    }
}

impl Acceptor {
    /// Shakes hands; run it in the connection's own task, never in the accept loop.
    ///
    /// Without TLS the connection is ready at once.
    ///
    /// # Errors
    /// [`HandshakeError`]; the socket is closed then.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        deadline: Instant,
    ) -> Result<Connection, HandshakeError> {
        let tls = match self.current.load().as_ref() {
            None => return Ok(Connection::Plain(stream)),
            Some(current) => current.tls.clone(),
        };
        let shake = async {
            let mut first = [0];
            match stream.peek(&mut first).await? {
                0 => Err(HandshakeError::Closed),
                _ if first == [HANDSHAKE_RECORD] => {
                    let stream = tls.accept(stream).await?;
                    Ok(Connection::Tls(Box::new(stream)))
                }
                _ => {
                    turn_away(stream, first[0]).await;
                    Err(HandshakeError::Plaintext)
                }
            }
        };
        match timeout_at(deadline, shake).await {
            Ok(result) => result,
            Err(_) => Err(HandshakeError::Timeout),
        }
    }
}

/// Tells an HTTP client that it came to a TLS port; anything else is just closed.
async fn turn_away(mut stream: TcpStream, first: u8) {
    if !first.is_ascii_alphabetic() {
        return;
    }
    let told = async {
        stream.write_all(THIS_IS_TLS).await?;
        stream.shutdown().await?;
        // Closing a socket with unread bytes resets it, and the answer may be lost with it.
        tokio::io::copy(
            &mut (&mut stream).take(LINGER_BYTES),
            &mut tokio::io::sink(),
        )
        .await
    };
    // Whether the answer arrives is the client's business.
    let _ = tokio::time::timeout(LINGER, told).await;
}

/// A connection on which HTTP may begin.
#[derive(Debug)]
pub enum Connection {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// The protocol that ALPN chose.
    #[must_use]
    pub fn alpn(&self) -> Protocol {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Protocol::H2,
            Self::Plain(_) | Self::Tls(_) => Protocol::H1,
        }
    }

    /// What the client showed and TLS has verified, its own certificate first.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }

    /// True when the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => match Pin::new(stream).poll_read(cx, buf) {
                // Many clients close without close_notify. HTTP marks the ends of its messages
                // itself, so a cut can't pass for one.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                result => result,
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The content type that every TLS connection begins with (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

const THIS_IS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 74\r\n\
    Connection: close\r\n\
    \r\n\
    {\"error\":\"bad_request\",\"message\":\"this port speaks TLS: use an https URL\"}";

/// What is read and dropped after [`THIS_IS_TLS`].
const LINGER_BYTES: u64 = 64 << 10;

const LINGER: Duration = Duration::from_millis(500);
