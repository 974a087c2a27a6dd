//! An issuer of tokens whose every word a test chooses: good ones, and those that no real provider
//! would make.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What tokens are for unless a test says otherwise.
pub(crate) const AUDIENCE: &str = "https://mcp.example.com";

/// Keys of three kinds, and what they sign.
pub(crate) struct Issuer {
    pub(crate) name: String,
    folder: TempDir,
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    /// An issuer that is no server: its keys are in a file.
    pub(crate) fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let rsa = include_bytes!("../../keys/rsa2048.pk8");
        let issuer = Self {
            name: name.to_owned(),
            folder: tempfile::tempdir().expect("a folder"),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).expect("a key"),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref(), &random).expect("a key"),
            rsa: RsaKeyPair::from_pkcs8(rsa).expect("a key"),
        };
        fs::write(issuer.file(), issuer.keys().to_string()).expect("keys are written");
        issuer
    }

    /// Its key set.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    /// `[auth.jwt]` with the key file; `more` are further lines.
    pub(crate) fn config(&self, more: &str) -> String {
        format!(
            "[auth.jwt]\nissuer = {:?}\njwks = {:?}\n{more}\n",
            self.name,
            self.file()
        )
    }

    /// Its keys as it publishes them.
    pub(crate) fn keys(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = self.p256.public_key().as_ref();
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
             "x": encode(self.ed25519.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256",
             "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "RSA", "kid": "rsa",
             "n": encode(&rsa.n),
             "e": encode(&rsa.e)},
            {"kty": "oct", "kid": "secret", "k": encode(b"a secret that should not be here")},
        ]})
    }

    /// Good claims of a subject.
    pub(crate) fn claims(&self, subject: &str, scope: &str) -> Value {
        json!({
            "iss": self.name, "sub": subject, "aud": AUDIENCE, "scope": scope,
            "iat": now(), "exp": now() + 300, "client_id": "app",
        })
    }

    /// A good token of a subject.
    pub(crate) fn token(&self, subject: &str, scope: &str) -> String {
        self.sign(&self.claims(subject, scope))
    }

    /// Signs claims as good tokens are signed.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"});
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs any text by the algorithm that its header names.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let signed = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let random = SystemRandom::new();
        let signature = if header.contains("ES256") {
            let signature = self.p256.sign(&random, signed.as_bytes());
            encode(signature.expect("a signature").as_ref())
        } else if header.contains("RS256") {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            let scheme = &RSA_PKCS1_SHA256;
            self.rsa
                .sign(scheme, &random, signed.as_bytes(), &mut signature)
                .expect("a signature");
            encode(&signature)
        } else {
            encode(self.ed25519.sign(signed.as_bytes()).as_ref())
        };
        format!("{signed}.{signature}")
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock that goes right").as_secs()
}

/// Whole answers by path, heads and all; the same for each request.
type Answers = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Where a server says nothing more, and holds the connection open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Before it has read anything: over TLS, in the handshake.
    AtOnce,
    /// After it has read the request.
    BeforeTheAnswer,
    /// In the middle of the answer.
    InTheAnswer,
}

/// A server of documents on loopback, plain HTTP.
pub(crate) struct Documents {
    pub(crate) url: String,
    silence: Arc<Mutex<Option<Silence>>>,
    answers: Answers,
    asked: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Documents {
    /// Serves nothing yet: everything is 404.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// As [`Documents::start`], over TLS as `localhost`, with a certificate and its key.
    pub(crate) async fn start_tls(certificate: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).expect("a certificate");
        let chain = chain.map(|one| one.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let documents = Self {
            url,
            silence: Arc::default(),
            answers: Answers::default(),
            asked: Arc::default(),
            requests: Arc::default(),
        };
        let answers = documents.answers.clone();
        let (asked, requests) = (documents.asked.clone(), documents.requests.clone());
        let silence = documents.silence.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let silence = *silence.lock().unwrap_or_else(PoisonError::into_inner);
                let (tls, answers, requests) = (tls.clone(), answers.clone(), requests.clone());
                // Who is left waiting holds up nobody else.
                tokio::spawn(async move {
                    secured(stream, tls.as_ref(), silence, (&answers, &requests)).await;
                });
            }
        });
        documents
    }

    /// From now on whoever connects waits in vain, or not any more.
    pub(crate) fn silence(&self, silence: Option<Silence>) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = silence;
    }

    /// From now on a path has this document.
    pub(crate) fn put(&self, path: &str, document: &Value) {
        self.raw(path, whole("200 OK", "", &document.to_string()));
    }

    /// From now on a path has this answer, head and all.
    pub(crate) fn raw(&self, path: &str, answer: Vec<u8>) {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), answer);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// What it was asked.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// An answer.
pub(crate) fn whole(status: &str, head: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{head}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What is answered, and where requests are written down.
type Books<'a> = (&'a Answers, &'a Mutex<Vec<String>>);

async fn secured(
    stream: TcpStream,
    tls: Option<&TlsAcceptor>,
    silence: Option<Silence>,
    books: Books<'_>,
) {
    if silence == Some(Silence::AtOnce) {
        return hold(stream).await;
    }
    let Some(tls) = tls else {
        return serve(stream, silence, books).await;
    };
    // Who doesn't trust it asks nothing.
    if let Ok(stream) = tls.accept(stream).await {
        serve(stream, silence, books).await;
    }
}

/// Keeps a connection open for as long as the test lasts.
async fn hold<IO>(stream: IO) {
    std::future::pending::<()>().await;
    drop(stream);
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    silence: Option<Silence>,
    (answers, requests): Books<'_>,
) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let known = |answers: &Answers| {
        let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&path).cloned()
    };
    let answer = known(answers);
    requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    let mut answer = answer.unwrap_or_else(|| whole("404 Not Found", "", "{}"));
    match silence {
        None => {}
        Some(Silence::InTheAnswer) => answer.truncate(answer.len() - 1),
        Some(_) => return hold(stream).await,
    }
    let _ = stream.write_all(&answer).await;
    if silence.is_some() {
        let _ = stream.flush().await;
        return hold(stream).await;
    }
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
