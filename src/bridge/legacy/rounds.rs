//! Calls that take more than one round.
//!
//! Owns the way of a call between the child that wants to know something and the client that is
//! asked (<https://modelcontextprotocol.io/specification/2026-07-28/basic/utilities/mrtr>).
//! Invariants: each round is a request with an id of its own, the same params and the state as it
//! came; rounds, pauses and waiting have an end.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Bridge, Failure, Purpose,
    calls::{Asking, Stage},
    input::{self, Input, Refused},
    request::Again,
    result::{self, Answer},
};
use crate::{
    backend::{CallError, Era, Outcome},
    bridge::object,
    frame::{self, Frame, Kind, Slot},
};

impl Bridge {
    /// The child's answer to a round of a call.
    pub(super) fn answered(&self, serial: u64, asked: result::Asked, answer: Frame) {
        let answer = match self.for_client(serial, &answer) {
            Some(answer) => answer,
            None => return,
        };
        match result::read(asked, answer) {
            Answer::Whole(answer) => self.finish(serial, Outcome::Answer(answer)),
            Answer::Contradiction(answer) => {
                self.backend.contradict(Era::Modern);
                self.finish(serial, Outcome::Answer(answer));
            }
            Answer::Lost => self.finish(serial, Outcome::Failed(Failure::Unreadable)),
            Answer::Wanting(input) => self.wanting(serial, input),
        }
    }

    /// The answer with the client's id; `None` when it is no call's, or the handshake's.
    fn for_client(&self, serial: u64, answer: &Frame) -> Option<Frame> {
        let held = {
            let mut state = self.state.lock();
            let held = state.calls.get(serial)?;
            if !matches!(held.purpose, Purpose::Hello) {
                return Some(answer.rewritten(&[(Slot::Id, &held.call.id)]));
            }
            state.calls.take(serial)?
        };
        self.greeted(held, answer);
        None
    }

    fn finish(&self, serial: u64, outcome: Outcome) {
        let held = self.state.lock().calls.take(serial);
        if let Some(held) = held {
            self.deliver(held.call, outcome);
        }
    }

    /// Parks a call, and asks its client.
    fn wanting(&self, serial: u64, input: Input) {
        // The cancellation may have found nothing at the child any more.
        if self.state.lock().calls.is_cancelled(serial) {
            return self.finish(serial, Outcome::Failed(Failure::Cancelled));
        }
        let asked = match input.wishes.is_empty() {
            true => self.pause(serial, input).map(|()| (0, Vec::new())),
            false => self.park(serial, &input),
        };
        match asked {
            Err(why) => self.fail(serial, why),
            Ok((lane, questions)) => {
                let Some(session) = self.session.upgrade() else {
                    return;
                };
                for (number, question) in questions {
                    if !session.ask(lane, question) {
                        return self.fail(serial, UNASKABLE);
                    }
                    self.state.lock().calls.asked_of_client(serial, number);
                }
            }
        }
    }

    /// A child that only wants to be asked again gets its time.
    fn pause(&self, serial: u64, input: Input) -> Result<(), &'static str> {
        let mut state = self.state.lock();
        if !state.calls.keep(serial, input.size()) {
            return Err(TOO_MUCH);
        }
        let Some(held) = state.calls.get(serial) else {
            return Ok(());
        };
        if held.pauses == MAX_PAUSES {
            return Err(TOO_OFTEN);
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << held.pauses)
            .min(LONGEST_PAUSE);
        held.pauses += 1;
        let kept = input.state.unwrap_or_default();
        held.stage = Stage::Pausing(Instant::now() + pause, kept);
        Ok(())
    }

    /// The lane and the questions.
    fn park(&self, serial: u64, input: &Input) -> Result<Asked, &'static str> {
        let mut state = self.state.lock();
        if !state.calls.keep(serial, input.size()) {
            return Err(TOO_MUCH);
        }
        let Some(held) = state.calls.get(serial) else {
            return Ok((0, Vec::new()));
        };
        if held.rounds == MAX_ROUNDS {
            return Err(TOO_OFTEN);
        }
        held.rounds += 1;
        let lane = held.call.lane;
        let declared = state.declared;
        let numbers = state
            .calls
            .park(serial, input, Instant::now())
            .ok_or(TOO_MUCH)?;
        let wishes = input.wishes.iter().zip(numbers);
        let questions = wishes.map(|(wish, number)| {
            let question = wish.question(number, declared)?;
            Ok((number, question))
        });
        let questions: Result<Vec<_>, Refused> = questions.collect();
        match questions {
            Ok(questions) => Ok((lane, questions)),
            Err(Refused::Undeclared) => Err(UNDECLARED),
            Err(Refused::Malformed) => Err(MALFORMED),
        }
    }

    /// True when a client's response answers a question that is open.
    pub(crate) fn awaits(&self, frame: &Frame) -> bool {
        question(frame).is_some_and(|number| self.state.lock().calls.is_open(number))
    }

    /// Takes a client's response, if it was asked under that id. Any other is passed over.
    pub(crate) fn respond(&self, frame: &Frame) {
        let Some(number) = question(frame) else {
            return;
        };
        let result = frame.result().filter(|_| frame.kind() == Kind::Result);
        let result = result.filter(|result| object::is_object(result));
        let (serial, whole, kept) = {
            let mut state = self.state.lock();
            let closed = state.calls.close(number, result.unwrap_or_default());
            let Some((serial, whole)) = closed else {
                return;
            };
            let kept = state.calls.keep(serial, result.map_or(0, <[u8]>::len));
            (serial, whole, kept)
        };
        match (result, kept) {
            (None, _) => self.fail(serial, DECLINED),
            (_, false) => self.fail(serial, TOO_MUCH),
            _ if whole => self.make_again(serial),
            _ => {}
        }
    }

    /// Makes a parked call again, with what it waited for.
    fn make_again(&self, serial: u64) {
        let ready = {
            let mut state = self.state.lock();
            let Some(held) = state.calls.get(serial) else {
                return;
            };
            let again = match std::mem::replace(&mut held.stage, Stage::Sending(None)) {
                Stage::Asking(asking) => answers(asking),
                Stage::Pausing(_, state) => Again {
                    responses: None,
                    state: Some(state),
                },
                // Somebody else has made it again already.
                other => {
                    held.stage = other;
                    return;
                }
            };
            let Purpose::Again(request) = &held.purpose else {
                return;
            };
            let ready = (
                request.clone(),
                held.call.lane,
                held.call.token.clone(),
                again,
            );
            state.calls.release(serial);
            ready
        };
        let (request, lane, token, again) = ready;
        let sent = self
            .translated(&request, &again)
            .and_then(|request| self.send(serial, (lane, token), &request));
        match sent {
            Ok(()) => {}
            Err(CallError::Gone) => self.finish(serial, Outcome::Failed(Failure::Crashed)),
            Err(CallError::Busy) => self.fail(serial, TOO_MUCH),
        }
    }

    /// Ends a call that can't go on; what its client is still asked is taken back.
    fn fail(&self, serial: u64, why: &'static str) {
        let held = self.state.lock().calls.take(serial);
        let Some(held) = held else { return };
        tracing::debug!(
            backend = self.backend.config().name,
            why,
            "a bridged call fails"
        );
        self.withdraw(held.call.lane, &held.questions());
        let outcome = match held.asked.failed(&held.call.id, why) {
            Some(answer) => Outcome::Answer(answer),
            None => Outcome::Failed(Failure::Unreadable),
        };
        self.deliver(held.call, outcome);
    }

    /// Takes questions back from the client.
    pub(super) fn withdraw(&self, lane: u32, questions: &[u64]) {
        let Some(session) = self.session.upgrade() else {
            return;
        };
        for number in questions {
            let params = format!(r#"{{"requestId":{number}}}"#);
            let text = frame::notification("notifications/cancelled", Some(params.as_bytes()));
            if let Ok(frame) = Frame::from_child(text) {
                session.progress(lane, frame);
            }
        }
    }

    pub(super) fn look_after_calls(&self, now: Instant) {
        let before = now.checked_sub(PATIENCE);
        let (again, over) = self.state.lock().calls.due(now, before);
        for serial in again {
            self.make_again(serial);
        }
        for serial in over {
            self.fail(serial, UNANSWERED);
        }
    }
}

/// A lane, and questions with their numbers.
type Asked = (u32, Vec<(u64, Frame)>);

fn answers(asking: Asking) -> Again {
    let given = asking.items.iter().filter_map(|item| {
        let answer = item.answer.as_deref()?;
        Some((&item.key[..], answer))
    });
    Again {
        responses: Some(input::responses(given)),
        state: asking.state,
    }
}

/// Our number of the question that a response names.
fn question(response: &Frame) -> Option<u64> {
    std::str::from_utf8(response.id()?).ok()?.parse().ok()
}

/// Rounds of questions for one call.
const MAX_ROUNDS: u32 = 8;
/// Times that a child may put a call off without a question.
const MAX_PAUSES: u32 = 10;
/// The first time that it is put off; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// People answer some questions.
const PATIENCE: Duration = Duration::from_secs(600);

const TOO_OFTEN: &str = "The server asks again and again";
const TOO_MUCH: &str = "Too much waits for this client's answers";
const UNDECLARED: &str = "The server needs something that this client can't be asked";
const MALFORMED: &str = "The server asks for something that can't be passed on";
const UNASKABLE: &str = "The server needs something that this client can't be asked now";
const DECLINED: &str = "The client refused what the server asked for";
const UNANSWERED: &str = "The client didn't answer what the server asked for";
