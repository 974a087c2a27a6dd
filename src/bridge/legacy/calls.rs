//! The calls of a client that are not answered, and where each of them stands.
//!
//! Owns the numbers of calls and of questions. Invariants: a call runs at the child, waits for its
//! client or waits for its time, one of the three; a question belongs to one call; what is kept is
//! bounded in bytes.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tokio::time::Instant;

use super::{input::Input, result::Asked};
use crate::{backend::Call, frame::Frame};

/// All of them.
#[derive(Debug)]
pub(super) struct Calls {
    held: HashMap<u64, Held>,
    /// Open questions: by number, the call that each belongs to.
    questions: BTreeMap<u64, u64>,
    next_serial: u64,
    next_question: u64,
    /// Bytes of requests, states and answers.
    kept: usize,
    room: usize,
}

/// A client's call.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) call: Call,
    pub(super) asked: Asked,
    pub(super) purpose: Purpose,
    pub(super) stage: Stage,
    /// The client wants it no more.
    pub(super) cancelled: bool,
    /// Times that the child wanted to know something.
    pub(super) rounds: u32,
    /// Times that it wanted to be asked again.
    pub(super) pauses: u32,
    /// Bytes that it keeps.
    kept: usize,
}

/// What a call is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// It is the handshake.
    Hello,
    /// It is made once.
    Once,
    /// It may have to be made again: the client's request.
    Again(Box<Frame>),
}

/// Where a call stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// On its way; the client's cancellation, if there was one already.
    Sending(Option<Frame>),
    /// The child has it, under this id.
    Running(u64),
    /// The client was asked.
    Asking(Asking),
    /// It is made again at that time, with this state.
    Pausing(Instant, Vec<u8>),
}

/// What a client was asked, and what it has answered so far.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) state: Option<Vec<u8>>,
    pub(super) items: Vec<Item>,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    /// The child's raw key token.
    pub(super) key: Bytes,
    /// The client has the question.
    pub(super) asked: bool,
    /// The client's raw result; empty when it refused.
    pub(super) answer: Option<Bytes>,
}

/// What a cancellation meets.
#[derive(Debug)]
pub(super) enum Cancel {
    /// The child has the call, under this id.
    Running(u64),
    /// It waited; it is gone now.
    Parked(Box<Held>),
    Nothing,
}

impl Held {
    pub(super) fn new(call: Call, asked: Asked, purpose: Purpose) -> Self {
        let mut held = Self {
            call,
            asked,
            purpose,
            stage: Stage::Sending(None),
            cancelled: false,
            rounds: 0,
            pauses: 0,
            kept: 0,
        };
        held.kept = held.request_size();
        held
    }

    fn request_size(&self) -> usize {
        match &self.purpose {
            Purpose::Again(frame) => frame.bytes().len(),
            Purpose::Hello | Purpose::Once => 0,
        }
    }

    /// Questions that the client has and has not answered.
    pub(super) fn questions(&self) -> Vec<u64> {
        match &self.stage {
            Stage::Asking(asking) => {
                let open = |item: &&Item| item.asked && item.answer.is_none();
                asking
                    .items
                    .iter()
                    .filter(open)
                    .map(|item| item.number)
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Calls {
    /// None, with room for so many bytes.
    pub(super) fn new(room: usize) -> Self {
        Self {
            held: HashMap::new(),
            questions: BTreeMap::new(),
            next_serial: 1,
            next_question: 1,
            kept: 0,
            room,
        }
    }

    /// A number that no call has had.
    pub(super) fn number(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    /// Takes a call up; `None` when there is no room. One call has room, however large it is.
    pub(super) fn insert(&mut self, held: Held) -> Option<u64> {
        if self.kept > 0 && self.kept + held.kept > self.room {
            return None;
        }
        self.kept += held.kept;
        let serial = self.number();
        self.held.insert(serial, held);
        Some(serial)
    }

    /// What kind of call it is, if it is one.
    pub(super) fn asked(&self, serial: u64) -> Option<Asked> {
        self.held.get(&serial).map(|held| held.asked)
    }

    pub(super) fn is_cancelled(&self, serial: u64) -> bool {
        self.held.get(&serial).is_some_and(|held| held.cancelled)
    }

    pub(super) fn get(&mut self, serial: u64) -> Option<&mut Held> {
        self.held.get_mut(&serial)
    }

    /// Ends a call; its questions are nobody's then.
    pub(super) fn take(&mut self, serial: u64) -> Option<Held> {
        let held = self.held.remove(&serial)?;
        self.kept -= held.kept;
        if let Stage::Asking(asking) = &held.stage {
            for item in &asking.items {
                self.questions.remove(&item.number);
            }
        }
        Some(held)
    }

    /// Ends all of them.
    pub(super) fn drain(&mut self) -> Vec<Held> {
        self.questions.clear();
        self.kept = 0;
        self.held.drain().map(|(_, held)| held).collect()
    }

    /// Keeps so many bytes more for a call. False: there is no room.
    pub(super) fn keep(&mut self, serial: u64, bytes: usize) -> bool {
        let fits = self.kept + bytes <= self.room;
        match self.held.get_mut(&serial) {
            Some(held) if fits => {
                held.kept += bytes;
                self.kept += bytes;
                true
            }
            _ => false,
        }
    }

    /// A call goes on: it keeps no more than its request.
    pub(super) fn release(&mut self, serial: u64) {
        if let Some(held) = self.held.get_mut(&serial) {
            let request = held.request_size();
            self.kept -= held.kept - request;
            held.kept = request;
        }
    }

    /// The child has a call under `ticket`; the cancellation that came meanwhile.
    pub(super) fn sent(&mut self, serial: u64, ticket: u64) -> Option<Frame> {
        let held = self.held.get_mut(&serial)?;
        let Stage::Sending(cancelled) = &mut held.stage else {
            // It was faster than we are.
            return None;
        };
        let cancelled = cancelled.take();
        held.stage = Stage::Running(ticket);
        cancelled
    }

    pub(super) fn cancel(&mut self, serial: u64, frame: &Frame) -> Cancel {
        let Some(held) = self.held.get_mut(&serial) else {
            return Cancel::Nothing;
        };
        held.cancelled = true;
        match &mut held.stage {
            Stage::Running(ticket) => Cancel::Running(*ticket),
            Stage::Sending(cancelled) => {
                *cancelled = Some(frame.clone());
                Cancel::Nothing
            }
            Stage::Asking(_) | Stage::Pausing(..) => self
                .take(serial)
                .map_or(Cancel::Nothing, |held| Cancel::Parked(Box::new(held))),
        }
    }

    /// Parks a call until its client has answered. The numbers of its questions, in their order;
    /// `None`: too many are open.
    pub(super) fn park(&mut self, serial: u64, input: &Input, now: Instant) -> Option<Vec<u64>> {
        if self.questions.len() + input.wishes.len() > MAX_QUESTIONS {
            return None;
        }
        let held = self.held.get_mut(&serial)?;
        let mut items = Vec::with_capacity(input.wishes.len());
        for wish in &input.wishes {
            let number = self.next_question;
            self.next_question += 1;
            self.questions.insert(number, serial);
            items.push(Item {
                number,
                key: wish.key.clone(),
                asked: false,
                answer: None,
            });
        }
        let numbers = items.iter().map(|item| item.number).collect();
        held.stage = Stage::Asking(Asking {
            state: input.state.clone(),
            items,
            since: now,
        });
        Some(numbers)
    }

    /// The client has a question.
    pub(super) fn asked_of_client(&mut self, serial: u64, number: u64) {
        if let Some(item) = self.item(serial, number) {
            item.asked = true;
        }
    }

    /// True when a question is open.
    pub(super) fn is_open(&self, number: u64) -> bool {
        self.questions.contains_key(&number)
    }

    /// Closes a question, with the client's raw result or an empty one; the call that it belongs to,
    /// and whether all of its questions are answered now. `None`: nothing was asked.
    pub(super) fn close(&mut self, number: u64, result: &[u8]) -> Option<(u64, bool)> {
        let serial = self.questions.remove(&number)?;
        self.item(serial, number)?.answer = Some(Bytes::copy_from_slice(result));
        let Stage::Asking(asking) = &self.held.get(&serial)?.stage else {
            return None;
        };
        let whole = asking.items.iter().all(|item| item.answer.is_some());
        Some((serial, whole))
    }

    fn item(&mut self, serial: u64, number: u64) -> Option<&mut Item> {
        match &mut self.held.get_mut(&serial)?.stage {
            Stage::Asking(asking) => asking.items.iter_mut().find(|item| item.number == number),
            _ => None,
        }
    }

    /// Calls whose time has come: those to be made again, and those whose client was asked before
    /// `before`.
    pub(super) fn due(&self, now: Instant, before: Option<Instant>) -> (Vec<u64>, Vec<u64>) {
        let (mut again, mut over) = (Vec::new(), Vec::new());
        for (serial, held) in &self.held {
            match &held.stage {
                Stage::Pausing(at, _) if *at <= now => again.push(*serial),
                Stage::Asking(asking) if before.is_some_and(|before| asking.since <= before) => {
                    over.push(*serial);
                }
                _ => {}
            }
        }
        (again, over)
    }
}

/// Questions that wait for one client.
const MAX_QUESTIONS: usize = 256;
