//! The state that travels with a client between two rounds: readable, but not to be changed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde_json::{Value, json};

/// The same in every process, so that any of them may get the retry.
const KEY: &[u8] = b"every conformance server of this repository has this key";

/// Signs a state; two of the same never look the same.
pub(crate) fn seal(what: &str, round: usize, answers: &Value) -> String {
    let mut fresh = [0; 12];
    let _ = getrandom::fill(&mut fresh);
    let state =
        json!({"for": what, "round": round, "answers": answers, "fresh": BASE64.encode(fresh)});
    let body = BASE64.encode(state.to_string());
    let tag = hmac::sign(&key(), body.as_bytes());
    format!("{body}.{}", BASE64.encode(tag))
}

/// The round and the answers of a state that this server signed for this.
pub(crate) fn open(what: &str, sealed: &str) -> Option<(usize, Value)> {
    let (body, tag) = sealed.split_once('.')?;
    let tag = BASE64.decode(tag).ok()?;
    hmac::verify(&key(), body.as_bytes(), &tag).ok()?;
    let state: Value = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
    if state["for"] != what {
        return None;
    }
    let round = usize::try_from(state["round"].as_u64()?).ok()?;
    Some((round, state["answers"].clone()))
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, KEY)
}
