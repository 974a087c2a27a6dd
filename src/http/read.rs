//! Reading what a client sends: media types and bodies.
//!
//! Invariants: a body is at most `max_body` bytes and comes within an absolute time; all bodies
//! that are being read share a budget.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use crate::{
    http::{Server, reject::Rejection},
    session::Budget,
};

/// What a client takes as an answer to a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepts {
    pub(crate) json: bool,
    pub(crate) stream: bool,
}

/// Reads `Accept`; without one the client takes both.
pub(crate) fn accepts(headers: &HeaderMap) -> Accepts {
    let mut accepts = Accepts {
        json: false,
        stream: false,
    };
    let mut any = false;
    for value in headers.get_all(ACCEPT) {
        any = true;
        for range in value.to_str().unwrap_or_default().split(',') {
            let (range, refused) = media_range(range);
            if refused {
                continue;
            }
            let is = |name: &str| range.eq_ignore_ascii_case(name);
            let all = is("*/*");
            accepts.json |= all || is("application/*") || is("application/json");
            accepts.stream |= all || is("text/*") || is("text/event-stream");
        }
    }
    if any {
        accepts
    } else {
        Accepts {
            json: true,
            stream: true,
        }
    }
}

/// The range without its parameters, and whether its quality is zero.
fn media_range(range: &str) -> (&str, bool) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let zero = |quality: &str| quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0);
    let refused = parts.filter_map(|part| part.strip_prefix("q=")).any(zero);
    (name, refused)
}

/// Refuses a body that isn't JSON: that is also what keeps simple cross-site posts out.
pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values
        .next()
        .and_then(|value| value.to_str().ok())
        .ok_or(Rejection::MediaType)?;
    if values.next().is_some() {
        return Err(Rejection::MediaType);
    }
    let mut parts = value.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf8 = parts
        .map(str::to_ascii_lowercase)
        .filter(|part| part.starts_with("charset="))
        .all(|part| matches!(part["charset=".len()..].trim_matches('"'), "utf-8" | "utf8"));
    if json && utf8 {
        Ok(())
    } else {
        Err(Rejection::MediaType)
    }
}

/// Reads a whole body.
pub(crate) async fn body(
    server: &Server,
    max: usize,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Bytes, Rejection> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if declared
        .and_then(|length| length.parse::<usize>().ok())
        .is_some_and(|length| length > max)
    {
        return Err(Rejection::BodyTooLarge);
    }
    let read = collect(&server.bodies, max, body);
    tokio::time::timeout(BODY_TIMEOUT, read)
        .await
        .map_err(|_| Rejection::BodyTimeout)?
}

async fn collect(budget: &Budget, max: usize, mut body: Incoming) -> Result<Bytes, Rejection> {
    let Some(first) = data(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > max {
        return Err(Rejection::BodyTooLarge);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut taken = Taken { budget, bytes: 0 };
    let mut all = BytesMut::from(&first[..]);
    while let Some(more) = data(&mut body).await? {
        if all.len() + more.len() > max {
            return Err(Rejection::BodyTooLarge);
        }
        if !budget.take(more.len()) {
            return Err(Rejection::Limit(None));
        }
        taken.bytes += more.len();
        all.extend_from_slice(&more);
    }
    Ok(all.freeze())
}

async fn data(body: &mut Incoming) -> Result<Option<Bytes>, Rejection> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Rejection::BadRequest("The body can't be read"))?;
        // Trailers are of no use here.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Bytes of the budget, given back when the body was read or not.
struct Taken<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.budget.put(self.bytes);
    }
}

/// From the head to the end of the body, whatever trickles in between.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
