//! One connection, from the handshake to its end.
//!
//! Owns hyper's settings: every limit that HTTP has is set here. Invariant: when the gateway
//! closes, a connection ends after the response that it is sending.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::Instrument;

use crate::{
    drain::Drain,
    http::{
        Ends, Server, again,
        body::Body,
        exchange::{MAX_HEAD, exchange},
        guard::{self, Activity, Fault, Guarded},
        record,
    },
    tls::Protocol,
};

/// Serves a connection until its client leaves or the gateway closes.
pub async fn serve<IO>(server: Arc<Server>, io: IO, protocol: Protocol, ends: Ends)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let closing = server.drain.clone();
    let limits = guard::Config {
        header_timeout: server.snapshot().http.header_timeout,
        max_head: MAX_HEAD,
        ..guard::Config::default()
    };
    match protocol {
        Protocol::H1 => {
            let guarded = Guarded::http1(io, &limits);
            let fault = guarded.fault();
            let io = TokioIo::new(guarded);
            let (recorder, client) = (server.clone(), ends.peer.ip());
            let service = service_fn(move |request| answer(server.clone(), ends.clone(), request));
            let connection = pin!(http1().serve_connection(io, service));
            // The guard knows what was wrong.
            let _ = until_closed(connection, closing, |c| c.graceful_shutdown()).await;
            if let Some(refused) = fault.get().copied().and_then(Fault::outline) {
                record::unread(&recorder, client, refused);
            }
        }
        Protocol::H2 => {
            let activity = Activity::new();
            let io = TokioIo::new(Guarded::http2(io, &limits, activity.clone()));
            let (recorder, client) = (server.clone(), ends.peer.ip());
            let service = service_fn(move |request| {
                let busy = activity.begin();
                let answer = answer(server.clone(), ends.clone(), request);
                async move { Ok::<_, Infallible>(answer.await?.map(|body| body.with(busy))) }
            });
            let connection = pin!(http2(closing.clone()).serve_connection(io, service));
            let ended = until_closed(connection, closing, |c| c.graceful_shutdown()).await;
            if ended.is_err_and(|error| is_overrun(&error)) {
                record::overrun(&recorder, client);
            }
        }
    }
}

async fn until_closed<C>(
    mut connection: std::pin::Pin<&mut C>,
    drain: Drain,
    shut_down: impl FnOnce(std::pin::Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let ended = tokio::select! {
        ended = again::drive(connection.as_mut()) => ended,
        () = drain.closing() => {
            shut_down(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = &ended {
        tracing::debug!(%error, "connection ended");
    }
    ended
}

/// True when HTTP/2 itself ended the connection, over a head far too large or a flood of streams.
/// Only the words of the error tell that apart.
fn is_overrun(error: &hyper::Error) -> bool {
    let words = format!("{error:?}");
    OVERRUNS.iter().any(|overrun| words.contains(overrun))
}

async fn answer(
    server: Arc<Server>,
    ends: Ends,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let span =
        tracing::debug_span!("request", method = %request.method(), path = request.uri().path());
    // Boxed: hyper keeps room for the future as long as the connection lives, and most are idle.
    let response = Box::pin(exchange(&server, &ends, request))
        .instrument(span.clone())
        .await;
    tracing::debug!(parent: &span, status = response.status().as_u16(), "answered");
    Ok(response)
}

fn http1() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The guard counts from a head's first byte; hyper would count the pause before it too.
        .header_read_timeout(None)
        .max_headers(100)
        .max_buf_size(H1_BUFFER);
    builder
}

fn http2(drain: Drain) -> hyper::server::conn::http2::Builder<Spawn> {
    let mut builder = hyper::server::conn::http2::Builder::new(Spawn(drain));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(H2_HEADERS)
        .max_send_buf_size(H2_SEND_BUFFER)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// hyper's tasks are the gateway's own.
#[derive(Clone)]
struct Spawn(Drain);

impl<F> Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        // What a request logs belongs to its connection.
        self.0.spawn(task.in_current_span());
    }
}

/// Read and write buffer of one HTTP/1 connection; also the longest head that hyper reads.
const H1_BUFFER: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 128;
/// The longest head on HTTP/2. What is longer gets a bare 431, or ends the connection when it is
/// longer by far; up to here the contract's limit is checked after it, and answered in its words.
const H2_HEADERS: u32 = 256 * 1024;
/// What h2 says when it ends a connection over what is too much.
const OVERRUNS: [&str; 2] = ["ENHANCE_YOUR_CALM, Library", "COMPRESSION_ERROR, Library"];
/// Waits for one HTTP/2 stream's window.
const H2_SEND_BUFFER: usize = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A peer that doesn't answer a ping within this is gone.
const H2_PING: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
