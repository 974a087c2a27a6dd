//! HTTP+SSE: one stream for a session, and a connection for every call in flight.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{INITIALIZED, PAUSE, Server, initialize};
use crate::call::{Call, answered};
use crate::http1::{Connection, write_request};
use crate::tally::{Run, nanos};
use crate::{json, sse};

/// An open session; its stream is read until it is dropped.
pub struct Session {
    server: Rc<Server>,
    fixed: Rc<Vec<u8>>,
    calls: Rc<Calls>,
    number: usize,
    reader: JoinHandle<()>,
}

/// The calls of one session, one slot for each that may be in flight.
struct Calls {
    slots: Vec<Slot>,
    run: Rc<Run>,
    ended: std::cell::Cell<bool>,
}

#[derive(Default)]
struct Slot {
    call: RefCell<Call>,
    /// When the call in flight was sent; `None` when there is none.
    started: std::cell::Cell<Option<Instant>>,
    answered: Notify,
}

/// How long a server may take for its part of the opening.
const OPENING: Duration = Duration::from_secs(30);

impl Session {
    /// Connects the stream, learns where to post, initializes.
    ///
    /// # Errors
    /// No connection, or a handshake that isn't answered as the protocol says.
    pub async fn open(server: &Rc<Server>, number: usize, run: &Rc<Run>) -> anyhow::Result<Self> {
        let dialled = Instant::now();
        let mut stream = Connection::open(&server.endpoint).await?;
        let connected = Instant::now();
        let path = &server.endpoint.path;
        let mut request = server.head("GET", path, &[("Accept", "text/event-stream")]);
        request.extend_from_slice(b"\r\n");
        let head = stream.exchange(&request).await?;
        if head.status != 200 || !head.events {
            bail!("GET {path}: {}", head.status);
        }
        let mut events = Events {
            stream,
            buffer: Vec::new(),
            scanned: 0,
        };
        let target = events.first(|name, data| {
            (name == b"endpoint").then(|| String::from_utf8_lossy(data).into_owned())
        });
        let target = tokio::time::timeout(OPENING, target)
            .await
            .context("no endpoint event")??;
        let again = Instant::now();
        let mut poster = Connection::open(&server.endpoint).await?;
        let connecting = again.elapsed();
        let content = [("Content-Type", "application/json")];
        let fixed = server.head("POST", path_of(&target), &content);
        post(&mut poster, &fixed, &initialize()).await?;
        let answer = events.first(|_, data| Some(json::envelope(data).result.is_some()));
        if !tokio::time::timeout(OPENING, answer)
            .await
            .context("no answer to initialize")??
        {
            bail!("initialize was refused");
        }
        post(&mut poster, &fixed, INITIALIZED).await?;
        let mut tally = run.tally.borrow_mut();
        tally.connect.record(nanos(connected - dialled));
        tally.connect.record(nanos(connecting));
        tally
            .open
            .record(nanos(connected.elapsed().saturating_sub(connecting)));
        drop(tally);
        let slots = (0..run.inflight).map(|_| Slot::default()).collect();
        let calls = Rc::new(Calls {
            slots,
            run: run.clone(),
            ended: false.into(),
        });
        let reader = tokio::task::spawn_local(events.read(calls.clone()));
        Ok(Self {
            server: server.clone(),
            fixed: Rc::new(fixed),
            calls,
            number,
            reader,
        })
    }

    /// Keeps the run's number of calls in flight until it stops, then drops the stream.
    pub async fn work(self) {
        let workers: Vec<_> = (0..self.calls.slots.len())
            .map(|slot| {
                let worker = Worker {
                    server: self.server.clone(),
                    fixed: self.fixed.clone(),
                    calls: self.calls.clone(),
                    number: self.number,
                    slot,
                };
                tokio::task::spawn_local(worker.work())
            })
            .collect();
        for worker in workers {
            // A worker that panicked leaves its call unfinished, which counts as lost.
            let _ = worker.await;
        }
    }

    /// One call, whose answer must be right, while the run is being measured.
    ///
    /// # Errors
    /// Any other outcome.
    pub async fn probe(&mut self) -> anyhow::Result<()> {
        let run = self.calls.run.clone();
        let before = run.tally.borrow().latency.count();
        let mut poster = Connection::open(&self.server.endpoint).await?;
        let request = self.calls.send(0, self.number, 1);
        post(&mut poster, &self.fixed, &request).await?;
        let answer = self.calls.slots[0].answered.notified();
        tokio::time::timeout(OPENING, answer)
            .await
            .context("no answer")?;
        if run.tally.borrow().latency.count() == before {
            bail!("the stream ended, or the answer isn't right");
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Calls {
    /// Marks a call as in flight and returns its message.
    fn send(&self, slot: usize, session: usize, id: u64) -> Vec<u8> {
        let slot = &self.slots[slot];
        let mut call = slot.call.borrow_mut();
        call.write(&self.run.shape, session, id);
        slot.started.set(Some(self.run.start()));
        call.body.clone()
    }

    fn receive(&self, message: &[u8]) {
        let message = json::envelope(message);
        let Some(id) = answered(&message) else { return };
        let slot = id
            .checked_sub(1)
            .map(|id| &self.slots[(id % self.slots.len() as u64) as usize]);
        if let Some(slot) = slot
            && slot.call.borrow().id == id
            && let Some(started) = slot.started.take()
        {
            let verdict = slot.call.borrow().judge(&self.run.shape, &message);
            self.run.finish(started, &verdict);
            slot.answered.notify_one();
            return;
        }
        self.run.tally.borrow_mut().stray += 1;
    }
}

struct Worker {
    server: Rc<Server>,
    fixed: Rc<Vec<u8>>,
    calls: Rc<Calls>,
    number: usize,
    slot: usize,
}

impl Worker {
    async fn work(self) {
        let run = self.calls.run.clone();
        let slot = &self.calls.slots[self.slot];
        let mut poster: Option<Connection> = None;
        let mut id = 1 + self.slot as u64;
        let mut request = Vec::new();
        let mut ignored = Vec::new();
        while run.going() && !self.calls.ended.get() {
            let mut open = match poster.take() {
                Some(open) => open,
                None => match Connection::open(&self.server.endpoint).await {
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
            let body = self.calls.send(self.slot, self.number, id);
            id += self.calls.slots.len() as u64;
            write_request(&mut request, &self.fixed, &body);
            let reason = match exchange(&mut open, &request, &mut ignored).await {
                Ok(200..=299) => None,
                Ok(status) => Some(format!("http {status}")),
                Err(error) => Some(format!("exchange: {}", error.kind())),
            };
            match reason {
                // A permit may be left over from a call whose POST failed though it was answered.
                None => {
                    while slot.started.get().is_some() && !self.calls.ended.get() {
                        slot.answered.notified().await;
                    }
                }
                Some(reason) => {
                    if let Some(started) = slot.started.take() {
                        run.fail(started, &reason);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if open.reusable() {
                poster = Some(open);
            }
        }
    }
}

struct Events {
    stream: Connection,
    buffer: Vec<u8>,
    scanned: usize,
}

impl Events {
    /// Reads until `want` finds something in an event.
    async fn first<T>(&mut self, want: impl Fn(&[u8], &[u8]) -> Option<T>) -> anyhow::Result<T> {
        loop {
            let mut found = None;
            sse::drain_events(&mut self.buffer, &mut self.scanned, |name, data| {
                found = found.take().or_else(|| want(name, data));
            });
            if let Some(found) = found {
                return Ok(found);
            }
            if !self.stream.part(&mut self.buffer).await? {
                bail!("the stream ended");
            }
        }
    }

    async fn read(mut self, calls: Rc<Calls>) {
        loop {
            sse::drain_events(&mut self.buffer, &mut self.scanned, |_, data| {
                calls.receive(data)
            });
            if !self.stream.part(&mut self.buffer).await.unwrap_or(false) {
                break;
            }
        }
        calls.ended.set(true);
        if calls.run.going() {
            calls.run.tally.borrow_mut().error("stream ended");
        }
        for slot in &calls.slots {
            slot.answered.notify_one();
        }
    }
}

async fn exchange(
    connection: &mut Connection,
    request: &[u8],
    body: &mut Vec<u8>,
) -> std::io::Result<u16> {
    body.clear();
    let head = connection.exchange(request).await?;
    connection.finish(body).await?;
    Ok(head.status)
}

async fn post(connection: &mut Connection, fixed: &[u8], body: &[u8]) -> anyhow::Result<()> {
    let mut request = Vec::new();
    write_request(&mut request, fixed, body);
    let status = exchange(connection, &request, &mut Vec::new()).await?;
    if !(200..300).contains(&status) {
        bail!("POST: {status}");
    }
    Ok(())
}

/// The path of an endpoint event, which may be a whole URL.
fn path_of(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://") else {
        return target;
    };
    rest.find('/').map_or("/", |at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::{Call, Calls, Run, Slot, path_of};
    use crate::call::Shape;
    use std::rc::Rc;

    #[test]
    fn answers_to_nobody_and_second_answers_are_stray() {
        let run = Rc::new(Run::new(
            Shape {
                payload: 64,
                result_bytes: 0,
                modern: false,
                run: 1,
            },
            2,
        ));
        let slots = vec![Slot::default(), Slot::default()];
        let calls = Calls {
            slots,
            run: run.clone(),
            ended: false.into(),
        };
        let _ = calls.send(1, 0, 2);
        let mut mine = Call::default();
        mine.write(&run.shape, 0, 2);
        let text = String::from_utf8(mine.body).unwrap();
        let text = text
            .split("\"text\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let answer = |id: &str| {
            format!(r#"{{"id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
        };
        for id in ["1", "4", "0", "\"2\""] {
            calls.receive(answer(id).as_bytes());
        }
        assert_eq!((run.tally.borrow().stray, run.finished.get()), (4, 0));
        calls.receive(answer("2").as_bytes());
        assert_eq!((run.tally.borrow().stray, run.finished.get()), (4, 1));
        calls.receive(answer("2").as_bytes());
        assert_eq!((run.tally.borrow().stray, run.tally.borrow().wrong), (5, 0));
    }

    #[test]
    fn an_endpoint_may_be_a_path_or_a_url() {
        assert_eq!(path_of("/m?x=1"), "/m?x=1");
        assert_eq!(path_of("http://127.0.0.1:1/m?x=1"), "/m?x=1");
    }
}
