//! `bare-bridge`: what any bridge from HTTP to a pipe costs at least. The yardstick.
//!
//! No keys, no limits, no check of anything, TLS only when asked for: hyper, a task that writes to the
//! child, one that reads from it, a map between them. `POST /mcp` answers JSON; `GET /sse` and `POST
//! /messages?session_id=N` are HTTP+SSE. `--tls FILE` makes a certificate for 127.0.0.1, writes it
//! there and serves TLS. Requests must bear integer ids. It ends when its standard
//! input ends, and prints its port as `listening ADDRESS`.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use load::json;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

const QUEUE: usize = 1024;
const READ: usize = 64 * 1024;

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let at = arguments.iter().position(|word| word == "--").context(
        "usage: bare-bridge [--listen ADDRESS] [--isolation shared|session] [--tls FILE] -- COMMAND...",
    )?;
    let command: Vec<_> = arguments.split_off(at).split_off(1);
    let mut args = pico_args::Arguments::from_vec(arguments);
    let listen: Option<String> = args.opt_value_from_str("--listen")?;
    let isolation: Option<String> = args.opt_value_from_str("--isolation")?;
    let tls: Option<PathBuf> = args.opt_value_from_str("--tls")?;
    let tls = tls.as_deref().map(acceptor).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen.as_deref().unwrap_or("127.0.0.1:0")).await?;
        writeln!(std::io::stdout(), "listening {}", listener.local_addr()?)?;
        let shared = isolation.as_deref() != Some("session");
        let bridge = Arc::new(Bridge::new(command, shared)?);
        tokio::select! {
            outcome = accept(listener, tls, bridge) => outcome,
            () = input_ends() => Ok(()),
        }
    })?;
    // A thread may still be blocked on standard input.
    runtime.shutdown_background();
    Ok(())
}

async fn input_ends() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(input.read(&mut ignored).await, Ok(1..)) {}
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    bridge: Arc<Bridge>,
) -> anyhow::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (tls, bridge) = (tls.clone(), bridge.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(socket, false, bridge).await,
                Some(tls) => {
                    let Ok(socket) = tls.accept(socket).await else {
                        return;
                    };
                    let two = socket.get_ref().1.alpn_protocol() == Some(b"h2");
                    connection(socket, two, bridge).await;
                }
            }
        });
    }
}

async fn connection<S>(socket: S, two: bool, bridge: Arc<Bridge>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let bridge = bridge.clone();
        async move { Ok::<_, Infallible>(bridge.serve(request).await) }
    });
    let io = TokioIo::new(socket);
    // However a connection ends, its client sees it.
    if two {
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

/// A new key and its certificate, which is left in `file` for clients to trust.
fn acceptor(file: &Path) -> anyhow::Result<TlsAcceptor> {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(file, key.cert.pem())?;
    let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The children and the sessions on them.
struct Bridge {
    command: Vec<std::ffi::OsString>,
    shared: Option<Arc<Child>>,
    sessions: Mutex<HashMap<u64, Session>>,
    next: AtomicU64,
}

#[derive(Clone)]
struct Session {
    child: Arc<Child>,
    stream: Option<mpsc::Sender<Answer>>,
}

impl Bridge {
    fn new(command: Vec<std::ffi::OsString>, shared: bool) -> anyhow::Result<Self> {
        let shared = if shared {
            Some(Child::spawn(&command)?)
        } else {
            None
        };
        Ok(Self {
            command,
            shared,
            sessions: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Out> {
        let outcome = match (request.method(), request.uri().path()) {
            (&Method::POST, "/mcp") => self.call(request).await,
            (&Method::DELETE, "/mcp") => self.end(&request),
            (&Method::GET, "/sse") => self.stream(),
            (&Method::POST, "/messages") => self.message(request).await,
            _ => None,
        };
        outcome.unwrap_or_else(|| status(StatusCode::NOT_FOUND))
    }

    /// A session on the shared child or one of its own, and its number.
    fn open(&self, stream: Option<mpsc::Sender<Answer>>) -> Option<(u64, Session)> {
        let child = match &self.shared {
            Some(child) => child.clone(),
            None => Child::spawn(&self.command).ok()?,
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let session = Session { child, stream };
        locked(&self.sessions).insert(id, session.clone());
        Some((id, session))
    }

    fn find(&self, id: &str) -> Option<Session> {
        locked(&self.sessions).get(&id.parse().ok()?).cloned()
    }

    async fn call(&self, request: Request<Incoming>) -> Option<Response<Out>> {
        let header = request.headers().get("mcp-session-id");
        let (opened, session) = match header {
            Some(id) => (None, self.find(id.to_str().ok()?)?),
            None => self.open(None).map(|(id, session)| (Some(id), session))?,
        };
        let body = request.into_body().collect().await.ok()?.to_bytes();
        let (sender, receiver) = oneshot::channel();
        if !session.child.send(&body, Waiting::Call(sender)).await? {
            return Some(status(StatusCode::ACCEPTED));
        }
        let answer = receiver.await.ok()?;
        let mut response = Response::builder().header("content-type", "application/json");
        if let Some(id) = opened {
            response = response.header("mcp-session-id", id);
        }
        response.body(Out::Whole(answer.into())).ok()
    }

    fn end(&self, request: &Request<Incoming>) -> Option<Response<Out>> {
        let id = request
            .headers()
            .get("mcp-session-id")?
            .to_str()
            .ok()?
            .parse()
            .ok()?;
        locked(&self.sessions).remove(&id)?;
        Some(status(StatusCode::OK))
    }

    fn stream(&self) -> Option<Response<Out>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (id, _) = self.open(Some(sender))?;
        let hello = format!("event: endpoint\ndata: /messages?session_id={id}\n\n");
        let out = Out::Events {
            first: Some(hello.into()),
            receiver,
        };
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(out)
            .ok()
    }

    async fn message(&self, request: Request<Incoming>) -> Option<Response<Out>> {
        let session = self.find(request.uri().query()?.strip_prefix("session_id=")?)?;
        let body = request.into_body().collect().await.ok()?.to_bytes();
        session
            .child
            .send(&body, Waiting::Stream(session.stream?))
            .await?;
        Some(status(StatusCode::ACCEPTED))
    }
}

fn status(code: StatusCode) -> Response<Out> {
    let mut response = Response::new(Out::Whole(VecDeque::new()));
    *response.status_mut() = code;
    response
}

/// A message in up to three pieces: before the id, the id, after it.
type Answer = [Bytes; 3];

enum Waiting {
    Call(oneshot::Sender<Answer>),
    Stream(mpsc::Sender<Answer>),
}

/// One running child.
struct Child {
    input: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<HashMap<u64, (Bytes, Waiting)>>>,
    next: AtomicU64,
    _process: tokio::process::Child,
}

impl Child {
    fn spawn(command: &[std::ffi::OsString]) -> anyhow::Result<Arc<Self>> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (input, queue) = mpsc::channel(QUEUE);
        let waiting = Arc::default();
        tokio::spawn(write(process.stdin.take().context("no stdin")?, queue));
        tokio::spawn(read(
            process.stdout.take().context("no stdout")?,
            Arc::clone(&waiting),
        ));
        Ok(Arc::new(Self {
            input,
            waiting,
            next: AtomicU64::new(1),
            _process: process,
        }))
    }

    /// Hands `message` over under an id of the bridge's own; false for one that isn't a request.
    async fn send(&self, message: &Bytes, waiting: Waiting) -> Option<bool> {
        let mut line = Vec::with_capacity(message.len() + 24);
        let id = json::envelope(message).id;
        if let Some(id) = id {
            let own = self.next.fetch_add(1, Ordering::Relaxed);
            let from = id.as_ptr() as usize - message.as_ptr() as usize;
            line.extend_from_slice(&message[..from]);
            let _ = write!(line, "{own}");
            line.extend_from_slice(&message[from + id.len()..]);
            locked(&self.waiting).insert(own, (message.slice_ref(id), waiting));
        } else {
            line.extend_from_slice(message);
        }
        line.push(b'\n');
        self.input.send(line).await.ok()?;
        Some(id.is_some())
    }
}

async fn write(mut pipe: ChildStdin, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut lines = Vec::new();
    while queue.recv_many(&mut lines, 64).await > 0 {
        let outcome = match &lines[..] {
            [line] => pipe.write_all(line).await,
            lines => pipe.write_all(&lines.concat()).await,
        };
        if outcome.is_err() {
            return;
        }
        lines.clear();
    }
}

async fn read(mut pipe: ChildStdout, waiting: Arc<Mutex<HashMap<u64, (Bytes, Waiting)>>>) {
    let mut buffer = BytesMut::new();
    let mut scanned = 0;
    loop {
        while let Some(step) = memchr::memchr(b'\n', &buffer[scanned..]) {
            let line = buffer.split_to(scanned + step + 1).freeze();
            scanned = 0;
            answer(&line.slice(..line.len() - 1), &waiting);
        }
        scanned = buffer.len();
        buffer.reserve(READ);
        if !matches!(pipe.read_buf(&mut buffer).await, Ok(1..)) {
            locked(&waiting).clear();
            return;
        }
    }
}

fn answer(line: &Bytes, waiting: &Mutex<HashMap<u64, (Bytes, Waiting)>>) {
    let Some(id) = json::envelope(line).id else {
        return;
    };
    let Some(own) = json::number(id) else { return };
    let Some((original, waiting)) = locked(waiting).remove(&own) else {
        return;
    };
    let from = id.as_ptr() as usize - line.as_ptr() as usize;
    let pieces = [line.slice(..from), original, line.slice(from + id.len()..)];
    match waiting {
        Waiting::Call(sender) => {
            let _ = sender.send(pieces);
        }
        // A stream that is full belongs to a client that broke the rules of the measurement.
        Waiting::Stream(sender) => {
            let _ = sender.try_send(pieces);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A response's body: pieces of known length, or events until the client goes.
enum Out {
    Whole(VecDeque<Bytes>),
    Events {
        first: Option<Bytes>,
        receiver: mpsc::Receiver<Answer>,
    },
}

/// Above this a piece isn't worth copying.
const JOIN: usize = 16 * 1024;

impl Body for Out {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Whole(pieces) => {
                if pieces.iter().map(Bytes::len).sum::<usize>() <= JOIN {
                    let whole: Vec<u8> = pieces.drain(..).flatten().collect();
                    (!whole.is_empty()).then(|| whole.into())
                } else {
                    pieces.pop_front()
                }
            }
            Self::Events { first, receiver } => match first.take() {
                Some(first) => Some(first),
                None => ready!(receiver.poll_recv(context)).map(|answer| {
                    let mut events = Vec::with_capacity(256);
                    push_event(&mut events, &answer);
                    while events.len() < JOIN
                        && let Ok(answer) = receiver.try_recv()
                    {
                        push_event(&mut events, &answer);
                    }
                    events.into()
                }),
            },
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(pieces) if pieces.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

fn push_event(into: &mut Vec<u8>, answer: &Answer) {
    into.extend_from_slice(b"event: message\ndata: ");
    for piece in answer {
        into.extend_from_slice(piece);
    }
    into.extend_from_slice(b"\n\n");
}
