//! Readers that hardly read, and what others on the same child notice of them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use load::call::Shape;
use load::http1::{Connection, write_request};
use load::net::Io;
use load::proc;
use load::tally::Run;
use load::target::{INITIALIZED, Server as Client, http, initialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::client;
use crate::server::Server;

/// A thousand sessions on one child (a hundred where it has to be quick), whose streams are read at a
/// byte a second: each has called for 64 KiB, four times.
pub(super) async fn slow(server: &Server, quick: bool) -> anyhow::Result<Value> {
    let stream = client(server, "/idle/sse")?;
    let (each, time): (u32, u64) = if quick { (5, 10) } else { (50, 30) };
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let stream = stream.clone();
        readers.spawn_local(async move {
            let mut open = Vec::new();
            for _ in 0..each {
                let mut reader = Reader::open(&stream).await?;
                for id in 1..=4 {
                    reader.call(&stream, id, 64 << 10).await?;
                }
                open.push(reader);
            }
            anyhow::Ok(open)
        });
    }
    let mut all = Vec::new();
    while let Some(opened) = readers.join_next().await {
        all.extend(opened??);
    }
    let (count, reading) = (all.len(), tokio::task::spawn_local(trickle(all)));
    let mut figures = watch(server, Duration::from_secs(time)).await?;
    reading.abort();
    figures["readers"] = count.into();
    Ok(figures)
}

/// One session that stops reading while its child answers it with a gibibyte.
pub(super) async fn stopped(server: &Server) -> anyhow::Result<Value> {
    let stream = client(server, "/idle/sse")?;
    let mut reader = Reader::open(&stream).await?;
    let calls = tokio::task::spawn_local(async move {
        let mut taken = 0;
        for id in 1..=64 {
            // Refused once its stream is cut: then there is no session any more.
            if reader.call(&stream, id, 16 << 20).await.is_err() {
                break;
            }
            taken += 1;
            // The child writes one answer after the other: others' have to come in between.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        // Held open, and not read.
        tokio::time::sleep(Duration::from_secs(10)).await;
        taken
    });
    let mut figures = watch(server, Duration::from_secs(20)).await?;
    figures["calls_of_16_mib"] = calls.await?.into();
    Ok(figures)
}

/// A client of HTTP+SSE that reads as little as it can.
struct Reader {
    stream: Box<dyn Io>,
    post: Vec<u8>,
}

impl Reader {
    async fn open(server: &Client) -> anyhow::Result<Self> {
        let mut stream = server.endpoint.connect().await?;
        let mut head = server.head(
            "GET",
            &server.endpoint.path,
            &[("Accept", "text/event-stream")],
        );
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await?;
        stream.flush().await?;
        let mut text = Vec::new();
        let target = until(&mut stream, &mut text, |text| {
            let (_, rest) = text.split_once("data: ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        let target = target.await?;
        let mut reader = Self {
            post: server.head("POST", &target, &[("Content-Type", "application/json")]),
            stream,
        };
        reader.send(server, &initialize()).await?;
        let agreed = |text: &str| text.contains("\"result\"").then_some(());
        until(&mut reader.stream, &mut text, agreed).await?;
        reader.send(server, INITIALIZED).await?;
        Ok(reader)
    }

    async fn call(&mut self, server: &Client, id: u32, bytes: usize) -> anyhow::Result<()> {
        let params = format!(r#"{{"name":"big","arguments":{{"bytes":{bytes}}}}}"#);
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
        self.send(server, body.as_bytes()).await
    }

    async fn send(&mut self, server: &Client, body: &[u8]) -> anyhow::Result<()> {
        let mut request = Vec::new();
        write_request(&mut request, &self.post, body);
        let head = Connection::open(&server.endpoint)
            .await?
            .exchange(&request)
            .await?;
        if head.status != 202 {
            bail!("POST: {}", head.status);
        }
        Ok(())
    }
}

async fn until<T>(
    stream: &mut Box<dyn Io>,
    text: &mut Vec<u8>,
    found: impl Fn(&str) -> Option<T>,
) -> anyhow::Result<T> {
    loop {
        if let Some(found) = found(&String::from_utf8_lossy(text)) {
            return Ok(found);
        }
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_buf(text));
        if read.await.context("nothing comes")?? == 0 {
            bail!("the stream ended");
        }
    }
}

/// Takes a byte a second from each; below it TLS takes a record at a time.
async fn trickle(mut readers: Vec<Reader>) {
    loop {
        for reader in &mut readers {
            let mut byte = [0];
            let one = reader.stream.read(&mut byte);
            let _ = tokio::time::timeout(Duration::from_micros(100), one).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Calls the same child from a session that reads, and looks at the server's memory.
async fn watch(server: &Server, time: Duration) -> anyhow::Result<Value> {
    let run = Rc::new(Run::new(
        Shape {
            payload: 64,
            result_bytes: 0,
            run: std::process::id(),
            modern: false,
        },
        1,
    ));
    let pid = server.pid.unwrap_or(0);
    let started = Instant::now();
    let mut session = http::Session::open(&client(server, "/idle/mcp")?, 0, &run).await?;
    let (mut slowest, mut calls, mut pss, mut error) = (Duration::ZERO, 0, 0, None);
    while started.elapsed() < time {
        let call = Instant::now();
        if let Err(cause) = session.probe(&run).await {
            error = Some(format!("{cause:#}"));
            break;
        }
        calls += 1;
        slowest = slowest.max(call.elapsed());
        pss = pss.max(proc::memory(pid).pss);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    session.close().await;
    Ok(json!({
        "sound": error.is_none(),
        "error": error,
        "calls_of_another": calls,
        "slowest_ms": slowest.as_secs_f64() * 1e3,
        "peak_pss_mib": pss / 1024,
    }))
}
