//! What is said when a request is refused, and what of it is recorded.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{
    Stop,
    envelope::{self, Fault},
};
use crate::{
    audit::Status,
    backend::{LeaseError, Withheld},
    frame::{self, Frame},
    http::{
        body::Body,
        exchange::Granted,
        record,
        reject::{RETRY, Rejection, after, json, modern_status, rate_error, unrecorded_error},
        send::{self, Refusal},
    },
    policy::Denied,
};

/// Records a request that was not let through.
pub(super) fn record(granted: &Granted, frame: &Frame, stop: &Stop) {
    let verdict = match stop {
        Stop::Fault(fault) => (Some("envelope"), error(fault.code)),
        Stop::Refusal(refusal @ Refusal::Scope(..)) => (refusal.rule(), refusal.status()),
        Stop::Refusal(refusal) => (refusal.rule(), error(code(refusal))),
        Stop::Draining => (Some("draining"), error(-32603)),
    };
    record::turned_away(granted, None, frame, verdict);
}

fn error(code: i32) -> Status<'static> {
    Status::Error(i64::from(code))
}

/// The answer to a request that was not let through.
pub(super) fn stopped(id: &Bytes, stop: &Stop) -> Response<Body> {
    match stop {
        Stop::Fault(fault) => response(id, fault),
        Stop::Refusal(Refusal::Limited(limited)) => {
            let error = rate_error(id, limited.retry_after);
            after(
                json(StatusCode::TOO_MANY_REQUESTS, error),
                limited.retry_after,
            )
        }
        Stop::Refusal(Refusal::Denied(denied)) => response(id, &denied_fault(denied)),
        Stop::Refusal(Refusal::Scope(_, challenge)) => {
            Rejection::Scope(challenge.clone()).into_response()
        }
        Stop::Refusal(_) | Stop::Draining => after(
            json(StatusCode::SERVICE_UNAVAILABLE, unrecorded_error(id)),
            RETRY,
        ),
    }
}

/// The message that says it, where its response has begun already.
pub(super) fn message(id: &Bytes, stop: &Stop) -> Bytes {
    match stop {
        Stop::Fault(fault) => fault.answer(Some(id)),
        Stop::Refusal(Refusal::Denied(denied) | Refusal::Scope(denied, _)) => {
            denied_fault(denied).answer(Some(id))
        }
        Stop::Refusal(Refusal::Limited(limited)) => rate_error(id, limited.retry_after),
        Stop::Refusal(_) | Stop::Draining => unrecorded_error(id),
    }
}

/// The response that carries a fault.
pub(super) fn response(id: &Bytes, fault: &Fault) -> Response<Body> {
    let response = json(fault.status, fault.answer(Some(id)));
    match fault.retry_after {
        Some(retry) => after(response, retry),
        None => response,
    }
}

/// What a request is about is not what was reviewed, or that can't be known.
/// Its decision is recorded already, so this is its outcome.
pub(super) fn withheld(withheld: Withheld) -> Fault {
    match send::unknown(withheld) {
        Some(denied) => denied_fault(&denied),
        None => unavailable(LeaseError::Start),
    }
}

/// No instance for a request.
pub(super) fn unavailable(error: LeaseError) -> Fault {
    let retry = match error {
        LeaseError::CircuitOpen { retry_after } => retry_after,
        _ => RETRY,
    };
    let (code, message, data) = match error {
        LeaseError::Full => {
            let data = r#"{"retry_after":1}"#.to_owned();
            (-32013, "Too many requests", Some(data))
        }
        _ => (-32011, "The server is not available", None),
    };
    Fault {
        status: match error {
            LeaseError::Draining => StatusCode::SERVICE_UNAVAILABLE,
            _ => modern_status(i64::from(code)),
        },
        code,
        message: Cow::Borrowed(message),
        data,
        retry_after: Some(retry),
    }
}

/// A server that can't say what it is: not a code that a client takes for another era.
pub(super) fn undiscovered(error: LeaseError) -> Fault {
    Fault {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: -32603,
        data: None,
        ..unavailable(error)
    }
}

fn code(refusal: &Refusal) -> i32 {
    match refusal {
        Refusal::Denied(denied) | Refusal::Withheld(Some(denied)) => denied_fault(denied).code,
        other => other.code(),
    }
}

/// What this principal may not know of is not there.
pub(super) fn denied_fault(denied: &Denied) -> Fault {
    if *denied == Denied::Method {
        return envelope::unknown();
    }
    let code = match denied {
        Denied::Resource(_) => -32602,
        other => other.code(),
    };
    Fault {
        status: StatusCode::OK,
        code,
        message: Cow::Owned(denied.to_string()),
        data: denied.data(),
        retry_after: None,
    }
}

/// A state that stands for no parked call.
pub(super) fn bad_state() -> Fault {
    Fault {
        status: StatusCode::OK,
        ..envelope::bad(-32602, "Unknown requestState, or responses that are none")
    }
}

/// Params that can't be read.
pub(super) fn bad_params() -> Fault {
    Fault {
        status: StatusCode::OK,
        ..envelope::bad(-32602, "Invalid params")
    }
}

impl Fault {
    /// Its JSON-RPC error.
    pub(super) fn answer(&self, id: Option<&[u8]>) -> Bytes {
        frame::error_response(id, self.code, &self.message, self.data.as_deref())
    }
}
