//! Documents of an issuer, over HTTPS.
//!
//! Owns the gateway's only requests to the outside. It must never be given an address that a token
//! names. Invariants: HTTPS, or HTTP to this very machine; no redirect is followed; size and time
//! are bounded; who learned an address from a document is not led into the network behind us.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
    uri::Scheme,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Why there is no document; for the log, never for a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Neither HTTPS nor HTTP to loopback.
    #[error("{0} is not fetched: only https, or http to this machine")]
    Scheme(Uri),
    /// The address leads somewhere it has no business.
    #[error("{0} leads to no address that may be asked")]
    Address(Uri),
    /// Name, connection or TLS.
    #[error("cannot connect to {0}: {1}")]
    Connect(Uri, io::Error),
    /// The peer doesn't speak HTTP as it should, or broke off, or sent too much.
    #[error("cannot read {0}: {1}")]
    Read(Uri, Box<dyn std::error::Error + Send + Sync>),
    /// An answer that isn't 200; redirects too.
    #[error("{0} answered {1}")]
    Status(Uri, StatusCode),
    /// It took too long.
    #[error("{0} didn't answer in time")]
    Timeout(Uri),
    /// No certificate authorities to trust.
    #[error("no certificate authorities to trust: {0}")]
    Roots(io::Error),
}

/// Fetches documents, trusting the system's authorities or one's own.
pub(super) struct Fetcher {
    ca: Option<PathBuf>,
    /// What the authorities made, and the file that they stood in.
    tls: Mutex<Option<(Vec<u8>, Arc<ClientConfig>)>>,
}

/// What is asked of an address.
pub(super) struct Question<'a> {
    pub(super) uri: &'a Uri,
    /// The address stood in a document of this issuer, not in the configuration.
    pub(super) learned_from: Option<&'a Uri>,
    /// A form to post, and who posts it.
    pub(super) form: Option<(String, HeaderValue)>,
}

impl<'a> Question<'a> {
    /// Gets a document that the configuration names.
    pub(super) fn get(uri: &'a Uri) -> Self {
        Self {
            uri,
            learned_from: None,
            form: None,
        }
    }
}

impl Fetcher {
    /// `ca`: a PEM file of the only authorities to trust.
    pub(super) fn new(ca: Option<PathBuf>) -> Self {
        Self {
            ca,
            tls: Mutex::new(None),
        }
    }

    /// The body of an answer of 200.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) async fn fetch(&self, question: Question<'_>) -> Result<Bytes, FetchError> {
        let uri = question.uri.clone();
        let fetched = timeout(DEADLINE, self.ask(question)).await;
        fetched.unwrap_or(Err(FetchError::Timeout(uri)))
    }

    async fn ask(&self, question: Question<'_>) -> Result<Bytes, FetchError> {
        let uri = question.uri.clone();
        let failed = |error| FetchError::Connect(uri.clone(), error);
        let (host, secure) = origin(&uri).ok_or_else(|| FetchError::Scheme(uri.clone()))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let found = lookup_host((bare(host), port)).await.map_err(failed)?;
        let inside = question
            .learned_from
            .is_none_or(|known| known.host() == Some(host));
        let allowed = |address: &SocketAddr| match address.ip().to_canonical() {
            ip if !secure => ip.is_loopback(),
            ip => inside || is_public(ip),
        };
        let addresses: Vec<SocketAddr> = found.filter(allowed).collect();
        if addresses.is_empty() {
            return Err(FetchError::Address(uri));
        }
        let tcp = TcpStream::connect(&*addresses).await.map_err(failed)?;
        let request = request(&question, host)?;
        if !secure {
            return exchange(tcp, request, &uri).await;
        }
        let tls = self.tls().await?;
        let name = ServerName::try_from(bare(host).to_owned())
            .map_err(|error| failed(io::Error::other(error)))?;
        let tls = TlsConnector::from(tls)
            .connect(name, tcp)
            .await
            .map_err(failed)?;
        exchange(tls, request, &uri).await
    }

    /// A file of authorities is looked at each time: it may have been replaced. While it can't be used,
    /// those that were in it are.
    async fn tls(&self) -> Result<Arc<ClientConfig>, FetchError> {
        let known = self.tls.lock().clone();
        let ca = self.ca.clone();
        if let (Some((_, made)), None) = (&known, &ca) {
            return Ok(made.clone());
        }
        let before = known.as_ref().map(|(file, _)| file.clone());
        // It reads files.
        let made = tokio::task::spawn_blocking(move || client_config(ca.as_deref(), before)).await;
        match (made.map_err(io::Error::other).flatten(), known) {
            (Ok(Some(made)), _) => {
                *self.tls.lock() = Some(made.clone());
                Ok(made.1)
            }
            (Ok(None), Some((_, made))) => Ok(made),
            (Err(error), Some((_, made))) => {
                tracing::warn!(%error, "the issuer's authorities stay as they were");
                Ok(made)
            }
            (Ok(None), None) => Err(FetchError::Roots(io::Error::other("there are none"))),
            (Err(error), None) => Err(FetchError::Roots(error)),
        }
    }
}

/// True for what may be fetched at all: `https`, or `http` to a loopback name.
#[must_use]
pub fn is_fetchable(uri: &Uri) -> bool {
    origin(uri).is_some()
}

/// Host, and whether TLS is spoken with it.
fn origin(uri: &Uri) -> Option<(&str, bool)> {
    let host = uri.host().filter(|host| !host.is_empty())?;
    if uri.authority()?.as_str().contains('@') {
        return None;
    }
    let scheme = uri.scheme()?;
    if *scheme == Scheme::HTTPS {
        return Some((host, true));
    }
    let local =
        bare(host) == "localhost" || bare(host).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    (*scheme == Scheme::HTTP && local).then_some((host, false))
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// True for addresses of the open internet.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            // Shared, protocol assignments, benchmarks; this network, and what is reserved.
            let special = matches!(
                (a, b, c),
                (100, 64..128, _) | (192, 0, 0) | (198, 18 | 19, _)
            );
            let special = special || a == 0 || a >= 240;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || special)
        }
        // Global unicast only; what carries an address of IPv4 in it (6to4, Teredo) may lead anywhere,
        // and NAT64 stands outside of it.
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            (0x2000..0x4000).contains(&a) && a != 0x2002 && (a, b) != (0x2001, 0)
        }
    }
}

fn request(question: &Question<'_>, host: &str) -> Result<Request<Full<Bytes>>, FetchError> {
    let uri = question.uri;
    let authority = match uri.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let builder = Request::builder()
        .uri(target)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("gatehouse/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    let built = match &question.form {
        None => builder.body(Full::default()),
        Some((form, authorization)) => builder
            .method("POST")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(AUTHORIZATION, authorization)
            .body(Full::from(form.clone())),
    };
    built.map_err(|error| FetchError::Read(uri.clone(), error.into()))
}

/// One request on a connection of its own, which ends with it.
async fn exchange<IO>(io: IO, request: Request<Full<Bytes>>, uri: &Uri) -> Result<Bytes, FetchError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| FetchError::Read(uri.clone(), error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| failed(error.into()))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.into()))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(uri.clone(), response.status()));
        }
        let mut body = Limited::new(response.into_body(), MAX_DOCUMENT);
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(failed)?.into_data() {
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.freeze())
    };
    // The connection has to be driven while its answer is read; it ends when this does.
    let drive = async {
        let ended = connection.await;
        match ended {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::pin!(answer, drive);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        error = &mut drive => Err(failed(error.into())),
    }
}

/// The authorities of a file.
///
/// # Errors
/// A file that can't be read, or holds none.
pub fn authorities(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("it holds no certificate"));
    }
    Ok(roots)
}

/// `None`: the file is as it was `before`.
fn client_config(
    ca: Option<&Path>,
    before: Option<Vec<u8>>,
) -> io::Result<Option<(Vec<u8>, Arc<ClientConfig>)>> {
    let file = ca.map(std::fs::read).transpose()?;
    if file.is_some() && file == before {
        return Ok(None);
    }
    let roots = match &file {
        Some(pem) => authorities(pem)?,
        None => {
            let mut roots = RootCertStore::empty();
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                return Err(io::Error::other("the system has none"));
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some((file.unwrap_or_default(), Arc::new(config))))
}

/// From the name's look-up to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a document; the largest key sets have some dozen KiB.
const MAX_DOCUMENT: usize = 256 * 1024;
/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
