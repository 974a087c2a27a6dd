//! A real hyper server behind the guard, over pipes and in paused time.

mod framing;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinHandle,
    time::advance,
};

use super::*;
use crate::drain::Drain;

/// A body of one chunk that never ends, or of chunks without end.
struct Stream {
    begun: bool,
    flood: bool,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.begun, true) && !self.flood {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"event\n")))))
    }
}

type Answer = Response<Either<Full<Bytes>, Stream>>;

async fn service(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let full = |status, text: String| {
        let mut response = Response::new(Either::Left(Full::from(text)));
        *response.status_mut() = status;
        response
    };
    let path = request.uri().path().to_owned();
    Ok(match &*path {
        "/stream" | "/flood" => Response::new(Either::Right(Stream {
            begun: false,
            flood: path == "/flood",
        })),
        "/early" => full(StatusCode::PAYLOAD_TOO_LARGE, "too large".to_owned()),
        _ => match request.into_body().collect().await {
            Ok(body) => full(StatusCode::OK, format!("{path}={}", body.to_bytes().len())),
            Err(error) => match Fault::of(&error) {
                Some(fault) => full(StatusCode::BAD_REQUEST, fault.to_string()),
                None => full(StatusCode::BAD_REQUEST, "body cut off".to_owned()),
            },
        },
    })
}

type Served = JoinHandle<hyper::Result<()>>;

/// A connection to a fresh server, with pipes of this size.
fn connect(pipe: usize) -> (DuplexStream, Served) {
    let (client, server) = duplex(pipe);
    let guarded = Guarded::http1(server, &Config::default());
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    let connection = builder.serve_connection(TokioIo::new(guarded), service_fn(service));
    (client, Drain::new().spawn(connection))
}

/// Says something and lets the server hear it now.
async fn say(client: &mut DuplexStream, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// What the server says up to and including some text.
async fn hear(client: &mut DuplexStream, until: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(until.as_bytes()) {
        let byte = client.read_u8().await;
        heard.push(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&heard))));
    }
    String::from_utf8(heard).unwrap()
}

/// What the server says until it closes.
async fn rest(client: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    String::from_utf8(heard).unwrap()
}

fn fault(served: &hyper::Result<()>) -> Option<Fault> {
    Fault::of(served.as_ref().err()?)
}

/// The JSON body of a refusal, which must be as long as it says.
fn refusal(heard: &str) -> (u16, serde_json::Value) {
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{heard}"
    );
    assert!(head.contains("\r\nConnection: close"), "{heard}");
    let status = head.get(9..12).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// How long it takes until the connection has ended.
async fn ends_after(served: Served) -> (Duration, hyper::Result<()>) {
    let start = Instant::now();
    let result = served.await.unwrap();
    (start.elapsed(), result)
}

fn seconds(range: std::ops::Range<u64>, time: Duration) {
    let (low, high) = (
        Duration::from_secs(range.start),
        Duration::from_secs(range.end),
    );
    assert!((low..high).contains(&time), "{time:?} is not in {range:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_in_order_also_when_pipelined() {
    let (mut client, _served) = connect(64);
    for _ in 0..3 {
        let text = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHEAD /b HTTP/1.1\r\n\r\n\
                    POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                    GET /d HTTP/1.1\r\n\r\n";
        let (reading, writing) = tokio::io::split(client);
        let writer = Drain::new().spawn(async move {
            let mut writing = writing;
            writing.write_all(text.as_bytes()).await.unwrap();
            writing
        });
        let mut heard = String::new();
        let mut reading = reading;
        while !heard.ends_with("/d=0") {
            heard.push(char::from(reading.read_u8().await.unwrap()));
        }
        client = reading.unsplit(writer.await.unwrap());
        let order: Vec<_> = ["/a=3", "\r\n\r\nHTTP", "/c=5", "/d=0"]
            .map(|text| heard.find(text))
            .to_vec();
        assert!(
            order.iter().all(Option::is_some) && order.is_sorted(),
            "{heard}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_refused_after_an_absolute_time() {
    let (mut client, served) = connect(4096);
    say(&mut client, "GET / HTTP/1.1\r\n").await;
    for _ in 0..9 {
        advance(Duration::from_secs(1)).await;
        say(&mut client, "X: y\r\n").await;
    }
    let start = Instant::now();
    let (status, body) = refusal(&rest(&mut client).await);
    seconds(0..2, start.elapsed());
    assert_eq!((status, &body["error"]), (408, &"request_timeout".into()));
    let (time, _) = ends_after(served).await;
    seconds(2..3, time);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let (mut client, served) = connect(4096);
    let (time, result) = ends_after(served).await;
    seconds(10..11, time);
    assert!(result.is_ok());
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_has_its_own_time_and_a_new_head_the_whole_of_its() {
    let (mut client, served) = connect(4096);
    for pause in [0, 60, 74] {
        advance(Duration::from_secs(pause)).await;
        say(&mut client, "GET /x HTTP/1.1\r\n").await;
        advance(Duration::from_secs(9)).await;
        say(&mut client, "\r\n").await;
        hear(&mut client, "/x=0").await;
    }
    let (time, result) = ends_after(served).await;
    seconds(75..76, time);
    assert!(result.is_ok());
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_response_in_progress_is_not_idle() {
    let (mut client, served) = connect(4096);
    say(&mut client, "GET /stream HTTP/1.1\r\n\r\n").await;
    hear(&mut client, "event\n\r\n").await;
    advance(Duration::from_secs(100_000)).await;
    tokio::task::yield_now().await;
    assert!(!served.is_finished());
    drop(client);
    let (time, result) = ends_after(served).await;
    seconds(0..1, time);
    assert!(result.is_err(), "the client went away in the middle");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_fails_and_bytes_that_come_earn_time() {
    let (mut client, served) = connect(1 << 20);
    say(
        &mut client,
        "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
    )
    .await;
    for _ in 0..29 {
        advance(Duration::from_secs(1)).await;
        say(&mut client, "x").await;
    }
    // Ten seconds' worth at the default rate.
    say(&mut client, &"x".repeat(10 * (32 << 10))).await;
    tokio::task::yield_now().await;
    let start = Instant::now();
    let heard = hear(&mut client, &Fault::BodyTimeout.to_string()).await;
    seconds(10..12, start.elapsed());
    assert!(heard.starts_with("HTTP/1.1 400"), "{heard}");
    drop(client);
    served.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_response_before_it() {
    let (mut client, served) = connect(4096);
    let text = "POST /one HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi\
                POST /two HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi";
    say(&mut client, text).await;
    hear(&mut client, "/one=2").await;
    let (status, body) = refusal(&rest(&mut client).await);
    assert_eq!((status, &body["error"]), (400, &"bad_request".into()));
    assert_eq!(body["message"], Fault::LengthRepeated.to_string());
    drop(client);
    let (time, _) = ends_after(served).await;
    seconds(0..1, time);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_into_a_response_that_goes_on() {
    let (mut client, served) = connect(4096);
    say(&mut client, "GET /stream HTTP/1.1\r\n\r\nGET / BAD\r\n\r\n").await;
    hear(&mut client, "event\n\r\n").await;
    let more = tokio::time::timeout(Duration::from_secs(1000), client.read_u8()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_bad_chunk_reaches_the_service_as_an_error() {
    let (mut client, _served) = connect(4096);
    say(
        &mut client,
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    tokio::task::yield_now().await;
    say(&mut client, "1\nx\r\n0\r\n\r\n").await;
    let heard = rest(&mut client).await;
    assert!(heard.starts_with("HTTP/1.1 400"), "{heard}");
    assert!(heard.ends_with(&Fault::Chunk.to_string()), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_large_head_is_refused_wherever_it_is_cut() {
    for step in [1, 1000, 20_000] {
        let (client, _served) = connect(1 << 16);
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(16 << 10));
        let (mut reading, mut writing) = tokio::io::split(client);
        for part in head.as_bytes().chunks(step) {
            writing.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut heard = String::new();
        reading.read_to_string(&mut heard).await.unwrap();
        let (status, body) = refusal(&heard);
        assert_eq!((status, &body["error"]), (431, &"headers_too_large".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_arrives_although_the_body_goes_on() {
    let (mut client, served) = connect(1024);
    say(
        &mut client,
        "POST /early HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
    )
    .await;
    hear(&mut client, "too large").await;
    // Nobody wants it, but it is taken.
    client.write_all(&[b'x'; 500_000]).await.unwrap();
    let (time, result) = ends_after(served).await;
    seconds(2..3, time);
    assert!(result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_reading_ends_the_connection() {
    let (mut client, served) = connect(1024);
    say(&mut client, "GET /flood HTTP/1.1\r\n\r\n").await;
    let (time, result) = ends_after(served).await;
    seconds(30..31, time);
    assert_eq!(fault(&result), Some(Fault::WriteStall));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_goes_on() {
    let (mut client, served) = connect(1024);
    say(&mut client, "GET /flood HTTP/1.1\r\n\r\n").await;
    for _ in 0..20 {
        advance(Duration::from_secs(29)).await;
        client.read_exact(&mut [0; 100]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(!served.is_finished());
}

/// An HTTP/2 server behind the guard, and what tells it that requests are open.
fn connect_http2() -> (DuplexStream, Activity, Served) {
    let (client, server) = duplex(1 << 16);
    let activity = Activity::new();
    let guarded = Guarded::http2(server, &Config::default(), activity.clone());
    let connection = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(guarded), service_fn(service));
    (client, activity, Drain::new().spawn(connection))
}

#[tokio::test(start_paused = true)]
async fn http2_needs_its_preface_in_time() {
    let (mut client, _, served) = connect_http2();
    say(&mut client, "PRI * HTTP/2.0\r\n").await;
    let (time, result) = ends_after(served).await;
    seconds(10..11, time);
    assert_eq!(fault(&result), Some(Fault::HeadTimeout));
}

#[tokio::test(start_paused = true)]
async fn http2_is_idle_only_without_open_requests() {
    let (mut client, activity, served) = connect_http2();
    say(
        &mut client,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    )
    .await;
    let busy = activity.begin();
    for _ in 0..100 {
        advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
    }
    assert!(!served.is_finished());
    drop(busy);
    let (time, _) = ends_after(served).await;
    seconds(75..151, time);
}
