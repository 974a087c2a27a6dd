//! Streamable HTTP: a connection for every call in flight, or one HTTP/2 connection for a session.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;

use super::{INITIALIZED, MODERN, PAUSE, REVISION, Server, initialize};
use crate::call::{Call, Verdict, answered};
use crate::http1::{self, write_request};
use crate::tally::{Run, nanos};
use crate::{http2, json, sse};

/// An open session and the connection it was opened on.
pub struct Session {
    server: Rc<Server>,
    id: Option<String>,
    number: usize,
    first: Option<Link>,
    stream: Option<http1::Connection>,
}

/// One connection and what every request on it begins with.
struct Link {
    wire: Wire,
    fixed: Vec<u8>,
    request: Vec<u8>,
    body: Vec<u8>,
}

enum Wire {
    One(http1::Connection),
    Two(http2::Connection),
}

struct Answer {
    status: u16,
    events: bool,
    session: Option<String>,
}

impl Session {
    /// Connects, initializes, and says so.
    ///
    /// # Errors
    /// No connection, or a handshake that isn't answered as the protocol says.
    pub async fn open(server: &Rc<Server>, number: usize, run: &Run) -> anyhow::Result<Self> {
        let dialled = Instant::now();
        let mut link = Link::open(server, None).await?;
        let connected = Instant::now();
        if server.modern {
            // There is nothing to open.
            let mut tally = run.tally.borrow_mut();
            tally.connect.record(nanos(connected - dialled));
            tally.open.record(nanos(connected.elapsed()));
            drop(tally);
            return Ok(Self {
                server: server.clone(),
                id: None,
                number,
                first: Some(link),
                stream: None,
            });
        }
        let answer = link.post(server, None, &initialize()).await?;
        if answer.status != 200
            || json::envelope(&link.message(answer.events)?)
                .result
                .is_none()
        {
            bail!(
                "initialize: {} {}",
                answer.status,
                String::from_utf8_lossy(&link.body)
            );
        }
        link.fixed = fixed(server, answer.session.as_deref());
        let accepted = link
            .post(server, answer.session.as_deref(), INITIALIZED)
            .await?;
        if accepted.status != 202 {
            bail!("initialized: {}", accepted.status);
        }
        let mut tally = run.tally.borrow_mut();
        tally.connect.record(nanos(connected - dialled));
        tally.open.record(nanos(connected.elapsed()));
        drop(tally);
        Ok(Self {
            server: server.clone(),
            id: answer.session,
            number,
            first: Some(link),
            stream: None,
        })
    }

    /// Keeps the run's number of calls in flight until it stops, then ends the session.
    pub async fn work(mut self, run: Rc<Run>) {
        let workers: Vec<_> = (0..run.inflight)
            .map(|slot| {
                let worker = Worker {
                    server: self.server.clone(),
                    session: self.id.clone(),
                    number: self.number,
                    slot,
                };
                let first = self.first.take();
                tokio::task::spawn_local(worker.work(run.clone(), first))
            })
            .collect();
        for worker in workers {
            // A worker that panicked leaves its call unfinished, which counts as lost.
            let _ = worker.await;
        }
        self.close().await;
    }

    /// Holds what a client holds that has nothing to do: the session's GET stream where the server
    /// offers one, otherwise the connection.
    ///
    /// # Errors
    /// No connection, or an answer that isn't HTTP.
    pub async fn rest(&mut self) -> anyhow::Result<()> {
        let Some(id) = self.id.as_deref().filter(|_| !self.server.http2) else {
            return Ok(());
        };
        let more = [
            ("Accept", "text/event-stream"),
            ("Mcp-Session-Id", id),
            ("MCP-Protocol-Version", REVISION),
        ];
        let mut request = self.server.head("GET", &self.server.endpoint.path, &more);
        request.extend_from_slice(b"\r\n");
        let mut stream = http1::Connection::open(&self.server.endpoint).await?;
        let head = stream.exchange(&request).await?;
        if head.status == 200 && head.events {
            self.stream = Some(stream);
            self.first = None;
        }
        Ok(())
    }

    /// One call, whose answer must be right.
    ///
    /// # Errors
    /// Any other outcome.
    pub async fn probe(&mut self, run: &Run) -> anyhow::Result<()> {
        if self.first.is_none() {
            self.first = Some(Link::open(&self.server, self.id.as_deref()).await?);
        }
        let link = self.first.as_mut().context("no connection")?;
        let mut call = Call::default();
        call.write(&run.shape, self.number, 1);
        let answer = link
            .post(&self.server, self.id.as_deref(), &call.body)
            .await?;
        let message = link.message(answer.events)?;
        let verdict = call.judge(&run.shape, &json::envelope(&message));
        if verdict != crate::call::Verdict::Right {
            bail!("{}: {verdict:?}", answer.status);
        }
        Ok(())
    }

    /// Ends the session with DELETE; what the server answers doesn't matter here.
    pub async fn close(self) {
        let Some(id) = &self.id else { return };
        if self.server.http2 {
            let _ = self.close2(id).await;
            return;
        }
        let Ok(mut connection) = http1::Connection::open(&self.server.endpoint).await else {
            return;
        };
        let more = [
            ("Mcp-Session-Id", id.as_str()),
            ("MCP-Protocol-Version", REVISION),
        ];
        let mut request = self
            .server
            .head("DELETE", &self.server.endpoint.path, &more);
        request.extend_from_slice(b"\r\n");
        let _ = connection.exchange(&request).await;
    }

    async fn close2(&self, id: &str) -> io::Result<()> {
        let mut connection = http2::Connection::open(&self.server.endpoint).await?;
        let mut request = request2(&self.server, Some(id), b"")?;
        *request.method_mut() = http::Method::DELETE;
        connection.exchange(request, &mut Vec::new()).await?;
        Ok(())
    }
}

struct Worker {
    server: Rc<Server>,
    session: Option<String>,
    number: usize,
    slot: usize,
}

impl Worker {
    async fn work(self, run: Rc<Run>, first: Option<Link>) {
        let mut link = first;
        let mut call = Call::default();
        let mut id = 1 + self.slot as u64;
        while run.going() {
            let mut open = match link.take() {
                Some(open) => open,
                None => match Link::open(&self.server, self.session.as_deref()).await {
                    Ok(open) => open,
                    Err(error) => {
                        run.tally
                            .borrow_mut()
                            .error(&format!("connect: {}", error.kind()));
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            call.write(&run.shape, self.number, id);
            id += run.inflight as u64;
            if self.one(&mut open, &call, &run).await {
                link = Some(open);
            }
        }
    }

    /// One call; false when its connection is of no more use.
    async fn one(&self, link: &mut Link, call: &Call, run: &Run) -> bool {
        let started = run.start();
        let answer = match link
            .post(&self.server, self.session.as_deref(), &call.body)
            .await
        {
            Ok(answer) => answer,
            Err(error) => {
                run.fail(started, &format!("exchange: {}", error.kind()));
                tokio::time::sleep(PAUSE).await;
                return false;
            }
        };
        let (mut done, mut refused) = (false, false);
        let mut see = |message: &[u8]| {
            let message = json::envelope(message);
            match answered(&message) {
                Some(id) if id == call.id && !done => {
                    let verdict = call.judge(&run.shape, &message);
                    (done, refused) = (true, matches!(verdict, Verdict::Refused(_)));
                    run.finish(started, &verdict);
                }
                Some(_) => run.tally.borrow_mut().stray += 1,
                None => {}
            }
        };
        if answer.events {
            sse::drain_events(&mut link.body, &mut 0, |_, data| see(data));
        } else {
            see(&link.body);
        }
        if !done {
            run.fail(started, &format!("http {}", answer.status));
        }
        if answer.status != 200 {
            tokio::time::sleep(PAUSE).await;
        } else if refused && !run.patience.is_zero() {
            tokio::time::sleep(run.patience).await;
        }
        link.reusable()
    }
}

impl Link {
    async fn open(server: &Server, session: Option<&str>) -> io::Result<Self> {
        let wire = if server.http2 {
            Wire::Two(http2::Connection::open(&server.endpoint).await?)
        } else {
            Wire::One(http1::Connection::open(&server.endpoint).await?)
        };
        Ok(Self {
            wire,
            fixed: fixed(server, session),
            request: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Posts `message`; the answer's body is in `self.body`.
    async fn post(
        &mut self,
        server: &Server,
        session: Option<&str>,
        message: &[u8],
    ) -> io::Result<Answer> {
        self.body.clear();
        match &mut self.wire {
            Wire::One(connection) => {
                write_request(&mut self.request, &self.fixed, message);
                let head = connection.exchange(&self.request).await?;
                connection.finish(&mut self.body).await?;
                Ok(Answer {
                    status: head.status,
                    events: head.events,
                    session: head.session,
                })
            }
            Wire::Two(connection) => {
                let request = request2(server, session, message)?;
                let head = connection.exchange(request, &mut self.body).await?;
                let text = |name| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
                Ok(Answer {
                    status: head.status.as_u16(),
                    events: text("content-type").is_some_and(|kind| kind.starts_with("text/event")),
                    session: text("mcp-session-id"),
                })
            }
        }
    }

    /// The last message of the body at hand.
    fn message(&mut self, events: bool) -> anyhow::Result<Vec<u8>> {
        if !events {
            return Ok(self.body.clone());
        }
        let mut last = None;
        sse::drain_events(&mut self.body, &mut 0, |_, data| last = Some(data.to_vec()));
        last.context("the stream ended without a message")
    }

    fn reusable(&self) -> bool {
        match &self.wire {
            Wire::One(connection) => connection.reusable(),
            Wire::Two(_) => true,
        }
    }
}

const ACCEPT: &str = "application/json, text/event-stream";

fn fixed(server: &Server, session: Option<&str>) -> Vec<u8> {
    let mut more = vec![("Content-Type", "application/json"), ("Accept", ACCEPT)];
    if server.modern {
        more.extend([
            ("MCP-Protocol-Version", MODERN),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", server.tool),
        ]);
    }
    if let Some(id) = session {
        more.extend([("Mcp-Session-Id", id), ("MCP-Protocol-Version", REVISION)]);
    }
    server.head("POST", &server.endpoint.path, &more)
}

fn request2(
    server: &Server,
    session: Option<&str>,
    message: &[u8],
) -> io::Result<http::Request<Full<Bytes>>> {
    let endpoint = &server.endpoint;
    let mut request = http::Request::post(format!(
        "{}://{}{}",
        endpoint.scheme(),
        endpoint.authority,
        endpoint.path
    ))
    .header("content-type", "application/json")
    .header("accept", ACCEPT);
    if let Some(key) = &server.key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if server.modern {
        request = request
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", "tools/call")
            .header("mcp-name", server.tool);
    }
    if let Some(id) = session {
        request = request
            .header("mcp-session-id", id)
            .header("mcp-protocol-version", REVISION);
    }
    request
        .body(Full::new(Bytes::copy_from_slice(message)))
        .map_err(io::Error::other)
}
