//! Whole requests and their answers, over HTTP/1.1 or HTTP/2.

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::rig::{events::Events, soon};

type Idle = Mutex<Vec<http1::SendRequest<Full<Bytes>>>>;

/// A client of one gateway; connections are kept for the next request.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    idle: Arc<Idle>,
    /// What it shows in the handshake; sessions are resumed then.
    tls: Option<Arc<ClientConfig>>,
    /// The one connection of HTTP/2.
    http2: Option<http2::SendRequest<Full<Bytes>>>,
}

/// A request in the making.
pub(crate) struct Ask {
    client: Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A whole answer.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer whose body is still to come.
pub(crate) struct Opened {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// Where the connection goes back to when the body was read.
    back: Option<(Arc<Idle>, http1::SendRequest<Full<Bytes>>)>,
}

impl Client {
    /// A client over HTTP/1.1 that trusts one certificate.
    pub(crate) fn new(address: SocketAddr, certificate: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        // Without a certificate there is nobody to trust.
        if let Ok(certificate) = CertificateDer::from_pem_file(certificate) {
            roots.add(certificate).expect("a certificate");
        }
        Self {
            address,
            roots: Arc::new(roots),
            idle: Arc::default(),
            tls: None,
            http2: None,
        }
    }

    /// The same with a client certificate; its connections resume the TLS session of the first.
    pub(crate) fn with_certificate(&self, certificate: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).expect("a file");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain, key)
            .expect("a pair");
        Self {
            idle: Arc::default(),
            tls: Some(Arc::new(config)),
            ..self.clone()
        }
    }

    /// The same over one connection of HTTP/2.
    pub(crate) async fn http2(&self) -> Self {
        let io = TokioIo::new(self.connect(&[b"h2"]).await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Self {
            http2: Some(sender),
            ..self.clone()
        }
    }

    /// A TLS connection.
    pub(crate) async fn connect(&self, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
        let connected = soon("a TLS connection", self.try_connect(protocols)).await;
        connected.expect("a TLS connection")
    }

    /// Whether a request is answered at all.
    pub(crate) async fn is_answered(&self) -> bool {
        let Ok(tls) = self.try_connect(&[b"http/1.1"]).await else {
            return false;
        };
        let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(tls)).await else {
            return false;
        };
        tokio::spawn(connection);
        let request = Request::get("/healthz").header("host", self.address.to_string());
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        soon("an answer or none", sender.send_request(request))
            .await
            .is_ok()
    }

    /// Whether the gateway that has the certificate answers.
    pub(crate) async fn is_served(&self) -> bool {
        self.try_connect(&[b"http/1.1"]).await.is_ok()
    }

    async fn try_connect(&self, protocols: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = match &self.tls {
            Some(config) => ClientConfig::clone(config),
            None => ClientConfig::builder()
                .with_root_certificates(self.roots.clone())
                .with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    /// Begins a request.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask {
        Ask {
            client: self.clone(),
            method: Method::from_bytes(method.as_bytes()).expect("a method"),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Posts JSON with a key.
    pub(crate) async fn post(
        &self,
        path: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.ask("POST", path)
            .key(key)
            .headers(headers)
            .json(body)
            .send()
            .await
    }

    /// Gets with a key.
    pub(crate) async fn get(&self, path: &str, key: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", path).key(key).headers(headers).send().await
    }

    async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        let idle = || {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        };
        while let Some(mut sender) = idle() {
            if sender.ready().await.is_ok() {
                return sender;
            }
        }
        let io = TokioIo::new(self.connect(&[b"http/1.1"]).await);
        let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender
    }
}

impl Ask {
    /// Adds a header; a repeated one stands twice.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        self.headers.append(name, value);
        self
    }

    /// Adds headers.
    pub(crate) fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers
            .iter()
            .fold(self, |ask, (name, value)| ask.header(name, value))
    }

    /// Presents a key; none if it is empty.
    pub(crate) fn key(self, key: &str) -> Self {
        match key {
            "" => self,
            key => self.header("authorization", format!("Bearer {key}")),
        }
    }

    /// Sets a body and says that it is JSON.
    pub(crate) fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        match self.headers.contains_key("content-type") {
            true => self,
            false => self.header("content-type", "application/json"),
        }
    }

    /// Sets a body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self) -> Reply {
        self.open().await.read().await
    }

    /// Sends it and reads a stream of events.
    pub(crate) async fn events(self) -> Events {
        Events::new(self.open().await)
    }

    /// Sends it and reads the answer's head.
    pub(crate) async fn open(self) -> Opened {
        let what = format!("an answer to {} {}", self.method, self.path);
        let http2 = self.client.http2.clone();
        let authority = self.client.address;
        let uri = match &http2 {
            Some(_) => format!("https://{authority}{}", self.path),
            None => self.path,
        };
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri.parse().expect("a URI");
        *request.headers_mut() = self.headers;
        if http2.is_none() && !request.headers().contains_key("host") {
            let host = HeaderValue::from_str(&authority.to_string()).expect("a host");
            request.headers_mut().insert("host", host);
        }
        let (response, back) = match http2 {
            Some(mut sender) => (soon(&what, sender.send_request(request)).await, None),
            None => {
                let mut sender = self.client.http1().await;
                let response = soon(&what, sender.send_request(request)).await;
                (response, Some((self.client.idle.clone(), sender)))
            }
        };
        let (head, body) = response
            .unwrap_or_else(|e| panic!("{what}: {e}"))
            .into_parts();
        Opened {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            back,
        }
    }
}

impl Opened {
    /// Reads the rest.
    pub(crate) async fn read(self) -> Reply {
        let Self {
            status,
            headers,
            body,
            back,
        } = self;
        let collected = soon("the rest of an answer", body.collect()).await;
        let body = collected.expect("a whole body").to_bytes();
        if let Some((idle, sender)) = back {
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sender);
        }
        Reply {
            status,
            headers,
            body,
        }
    }

    /// The next piece of the body; `None` at its end, `Err` when it broke off.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Reply {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON; of a stream, which an answer becomes that is long in coming, the last event.
    pub(crate) fn json(&self) -> Value {
        let streamed = self.header("content-type") == Some("text/event-stream");
        let lines = self.body.split(|byte| *byte == b'\n');
        let last = lines
            .filter_map(|line| line.strip_prefix(b"data: "))
            .next_back();
        let text = last.filter(|_| streamed).unwrap_or(&self.body);
        serde_json::from_slice(text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Reply {
    /// Asserts a refusal of HTTP: the status, and `{"error": code, "message": …}` and no more.
    pub(crate) fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        let body = self.json();
        let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["error", "message"], "{self:?}");
        assert_eq!(body["error"], code, "{self:?}");
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{self:?}"
        );
        self.assert_tells_nothing();
    }

    /// Asserts a JSON-RPC error with this id (`null`: without one), and gives back the error.
    pub(crate) fn assert_error(&self, status: u16, id: &Value, code: i64) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        self.assert_tells_nothing();
        assert_error(&self.json(), id, code)
    }

    /// Asserts that there are no traces of the inside in it.
    pub(crate) fn assert_tells_nothing(&self) {
        let whole = format!("{self:?}");
        for inside in [
            "misbehave",
            "/tmp",
            "/usr",
            "target/",
            "panicked",
            ".rs:",
            "os error",
        ] {
            assert!(!whole.contains(inside), "{inside} in {whole}");
        }
    }

    /// Everything but the time: equal for answers that must not be told apart.
    pub(crate) fn without_date(&self) -> String {
        let mut same = self.clone();
        same.headers.remove("date");
        format!("{same:?}")
    }
}

/// Asserts a JSON-RPC error of exactly the members that there may be, and gives back the error.
pub(crate) fn assert_error(message: &Value, id: &Value, code: i64) -> Value {
    let members = message.as_object().expect("an object");
    let keys: Vec<&String> = members.keys().collect();
    match id {
        Value::Null => assert_eq!(keys, ["jsonrpc", "error"], "{message}"),
        id => {
            assert_eq!(keys, ["jsonrpc", "id", "error"], "{message}");
            assert_eq!(message["id"], *id, "{message}");
        }
    }
    let error = &message["error"];
    assert_eq!(error["code"], code, "{message}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{message}"
    );
    let known = ["code", "message", "data"];
    let strange = |key: &String| !known.contains(&key.as_str());
    assert!(
        !error.as_object().expect("an object").keys().any(strange),
        "{message}"
    );
    error.clone()
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        writeln!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}
