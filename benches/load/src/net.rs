//! Where the server is, and connections to it: plain or TLS, nothing of HTTP.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// A byte stream of either kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A server's address, the path on it, and how to reach it.
#[derive(Clone)]
pub struct Endpoint {
    /// `host:port`, as the Host header has it.
    pub authority: String,
    /// Begins with `/`.
    pub path: String,
    host: String,
    tls: Option<TlsConnector>,
    sources: Option<Arc<Sources>>,
}

/// Loopback addresses to come from, in turns: a server may limit what one address opens.
struct Sources {
    count: u32,
    next: AtomicU32,
}

impl Endpoint {
    /// Reads `url`; an https one trusts the certificates in the PEM file `ca` and nothing else.
    ///
    /// # Errors
    /// A URL that isn't `http(s)://host:port/path`, or a PEM file that can't be used.
    pub fn load(url: &str, ca: Option<&Path>, http2: bool) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").context("the URL has no scheme")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let (host, _port) = authority
            .rsplit_once(':')
            .context("the URL names no port")?;
        let tls = match (scheme, ca) {
            ("http", _) => None,
            ("https", Some(file)) => Some(connector(file, http2)?),
            ("https", None) => bail!("https needs --ca FILE"),
            _ => bail!("neither http nor https: {url}"),
        };
        Ok(Self {
            authority: authority.to_owned(),
            path: path.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            tls,
            sources: None,
        })
    }

    /// Connections to 127.0.0.1 come from `count` addresses in turns.
    #[must_use]
    pub fn from_sources(mut self, count: u8) -> Self {
        let next = AtomicU32::new(0);
        let count = u32::from(count.max(1));
        self.sources = (count > 1).then(|| Arc::new(Sources { count, next }));
        self
    }

    /// The same server, another path.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Opens a connection, TLS handshake included.
    ///
    /// # Errors
    /// What the socket or the handshake says.
    pub async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let socket = match &self.sources {
            None => TcpStream::connect(&self.authority).await?,
            Some(sources) => sources.connect(&self.authority).await?,
        };
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, socket).await?))
    }
}

impl Sources {
    async fn connect(&self, authority: &str) -> io::Result<TcpStream> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.count;
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number);
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket
            .connect(authority.parse().map_err(io::Error::other)?)
            .await
    }
}

fn connector(file: &Path, http2: bool) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .with_context(|| format!("can't read {}", file.display()))?;
    for certificate in certificates {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocol = if http2 { "h2" } else { "http/1.1" };
    config.alpn_protocols = vec![protocol.into()];
    Ok(TlsConnector::from(Arc::new(config)))
}
