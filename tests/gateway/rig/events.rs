//! Server-sent events, read one at a time.

use std::collections::VecDeque;

use serde_json::Value;

use crate::rig::{client::Opened, soon};

/// One event. What was not there is `None`; data over several lines are joined by LF.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<String>,
}

/// A stream of events.
pub(crate) struct Events {
    opened: Opened,
    text: Vec<u8>,
    ready: VecDeque<Event>,
    comments: usize,
}

impl Event {
    /// Its data as JSON.
    pub(crate) fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_default();
        serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Events {
    pub(crate) fn new(opened: Opened) -> Self {
        Self {
            opened,
            text: Vec::new(),
            ready: VecDeque::new(),
            comments: 0,
        }
    }

    /// The status of the answer that carries the stream.
    pub(crate) fn status(&self) -> u16 {
        self.opened.status
    }

    /// A header of that answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.opened.header(name)
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        soon("an event", self.take()).await
    }

    /// The next event that has data, as JSON.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.data.as_deref().is_some_and(|data| !data.is_empty()) {
                return event.json();
            }
        }
    }

    /// Waits for a comment, with no event before it.
    pub(crate) async fn comment(&mut self) {
        let commented = async {
            while self.comments == 0 {
                assert_eq!(self.ready, [], "an event before a comment");
                let piece = self.opened.piece().await.expect("the stream goes on");
                self.text.extend_from_slice(&piece.expect("bytes"));
                self.split();
            }
        };
        soon("a comment", commented).await;
    }

    /// All events up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The next event, however long it takes.
    pub(crate) async fn take(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let kind = self.opened.header("content-type");
            assert_eq!(kind, Some("text/event-stream"), "{}", self.opened.status);
            // A stream that breaks off has ended, too.
            let piece = self.opened.piece().await?.ok()?;
            self.text.extend_from_slice(&piece);
            self.split();
        }
    }

    fn split(&mut self) {
        while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.text.drain(..end + 2).collect();
            let block = String::from_utf8(block).expect("events are UTF-8");
            match parse(&block) {
                Some(event) => self.ready.push_back(event),
                None => self.comments += 1,
            }
        }
    }
}

/// `None` for comments alone.
fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => {}
            "id" => event.id = Some(value),
            "event" => event.event = Some(value),
            "retry" => event.retry = Some(value),
            "data" => match &mut event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                None => event.data = Some(value),
            },
            name => panic!("what is {name}? {block:?}"),
        }
    }
    (event != Event::default()).then_some(event)
}
