//! What a modern child wants to know before it goes on with a call.
//!
//! Owns the reading of an `InputRequiredResult`
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/utilities/mrtr>) and the making of
//! questions and of `inputResponses`. Invariant: a client is asked only what it declared that it can
//! be asked, and the state goes back as it came.

use bytes::Bytes;

use crate::{
    backend::Capabilities,
    bridge::object::{self, Object},
    frame::{self, Frame},
    policy::scan::Members,
};

/// A whole `InputRequiredResult`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// The raw `requestState`, a string.
    pub(super) state: Option<Vec<u8>>,
    pub(super) wishes: Vec<Wish>,
}

/// One of the `inputRequests`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Its raw key token.
    pub(super) key: Bytes,
    pub(super) method: String,
    /// Raw; `None` where there are none.
    pub(super) params: Option<Vec<u8>>,
}

/// Why a client isn't asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It didn't declare that it can be.
    Undeclared,
    /// There is no such question, or it has no such form.
    Malformed,
}

impl Input {
    /// Reads a result whose `resultType` is `input_required`; `None` when it has a form that the
    /// revision doesn't have, or wants too much at once.
    pub(super) fn read(result: &[u8]) -> Option<Self> {
        let state = match object::get(result, "requestState") {
            None => None,
            Some(raw) if object::is_text(raw) => Some(raw.to_vec()),
            Some(_) => return None,
        };
        let wishes = match object::get(result, "inputRequests") {
            None => Vec::new(),
            Some(raw) if object::is_object(raw) => wishes(raw)?,
            Some(_) => return None,
        };
        let some = state.is_some() || !wishes.is_empty();
        some.then_some(Self { state, wishes })
    }

    /// Bytes that it keeps while it waits.
    pub(super) fn size(&self) -> usize {
        let wish = |wish: &Wish| wish.key.len() + WISH_COST;
        self.state.as_ref().map_or(0, Vec::len) + self.wishes.iter().map(wish).sum::<usize>()
    }
}

fn wishes(raw: &[u8]) -> Option<Vec<Wish>> {
    let mut wishes = Vec::new();
    for (key, value) in Members::of(raw) {
        if wishes.len() == MAX_WISHES || !object::is_object(value) || key.len() > MAX_KEY {
            return None;
        }
        // The same key twice would be asked twice, and answered once.
        if wishes.iter().any(|wish: &Wish| wish.key == key) {
            return None;
        }
        let params = match object::get(value, "params") {
            None | Some(b"null") => None,
            Some(params) if object::is_object(params) => Some(params.to_vec()),
            Some(_) => return None,
        };
        wishes.push(Wish {
            key: Bytes::copy_from_slice(key),
            method: object::get_text(value, "method")?.into_owned(),
            params,
        });
    }
    Some(wishes)
}

impl Wish {
    /// The question for the client, under an id of ours.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn question(&self, number: u64, declared: Capabilities) -> Result<Frame, Refused> {
        let params = self.params.as_deref();
        let mode = params.and_then(|params| object::get(params, "mode"));
        let by_url = match mode.map(object::text) {
            None => false,
            Some(Some(mode)) => mode == "url",
            Some(None) => return Err(Refused::Malformed),
        };
        if !declared.allow(&self.method, by_url) {
            return Err(Refused::Undeclared);
        }
        let by_url = by_url && self.method == "elicitation/create";
        let addressed = params.filter(|_| by_url).map(with_id).transpose()?;
        let id = number.to_string();
        let text = frame::request(id.as_bytes(), &self.method, addressed.as_deref().or(params));
        Frame::from_child(text).map_err(|_| Refused::Malformed)
    }
}

/// 2025-11-25 wants an id in each elicitation by URL, which the child has no use for.
fn with_id(params: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refused::Malformed)?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = Object::without(params, &["elicitationId"]);
    out.add_text("elicitationId", &id);
    Ok(out.finish())
}

/// The raw `inputResponses`: key tokens and raw results.
pub(super) fn responses<'a>(answers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Object::with_capacity(256);
    for (key, result) in answers {
        out.raw(key, result);
    }
    out.finish()
}

/// Questions at once for one call.
const MAX_WISHES: usize = 32;
/// A key token, bytes.
const MAX_KEY: usize = 1024;
/// What a question keeps beside its key.
const WISH_COST: usize = 256;

#[cfg(test)]
mod tests {
    use super::{Input, Refused, responses};
    use crate::backend::Capabilities;

    fn declared(raw: &str) -> Capabilities {
        Capabilities::read(raw.as_bytes()).unwrap()
    }

    fn question(request: &str, declares: &str) -> Result<String, Refused> {
        let result = format!(r#"{{"inputRequests":{{"k":{request}}}}}"#);
        let input = Input::read(result.as_bytes()).unwrap();
        let frame = input.wishes[0].question(7, declared(declares))?;
        Ok(String::from_utf8(frame.bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_client_is_asked_what_it_declared_and_nothing_else() {
        let form = r#"{"method":"elicitation/create","params":{"message":"m","x":1.0}}"#;
        let asked = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"m","x":1.0}}"#;
        assert_eq!(question(form, r#"{"elicitation":{}}"#).unwrap(), asked);
        let url = r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://x"}}"#;
        let sample = r#"{"method":"sampling/createMessage","params":{"messages":[]}}"#;
        let roots = r#"{"method":"roots/list"}"#;
        for (request, declares) in [
            (form, "{}"),
            (form, r#"{"elicitation":{"url":{}}}"#),
            (url, r#"{"elicitation":{}}"#),
            (url, r#"{"sampling":{},"roots":{}}"#),
            (sample, r#"{"elicitation":{},"roots":{}}"#),
            (roots, r#"{"sampling":{}}"#),
            (
                r#"{"method":"ping"}"#,
                r#"{"sampling":{},"roots":{},"elicitation":{}}"#,
            ),
            (
                r#"{"method":"tools/call","params":{}}"#,
                r#"{"sampling":{},"roots":{}}"#,
            ),
        ] {
            assert_eq!(
                question(request, declares),
                Err(Refused::Undeclared),
                "{request}"
            );
        }
        assert!(question(sample, r#"{"sampling":{}}"#).is_ok());
        let asked = r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#;
        assert_eq!(question(roots, r#"{"roots":{}}"#).unwrap(), asked);
    }

    #[test]
    fn an_elicitation_by_url_has_an_id_that_nobody_can_guess() {
        let request = r#"{"method":"elicitation/create","params":{"mode":"u\u0072l","url":"https://x","elicitationId":"1"}}"#;
        let declares = r#"{"elicitation":{"url":{}}}"#;
        let one = question(request, declares).unwrap();
        let two = question(request, declares).unwrap();
        assert_ne!(one, two);
        let value: serde_json::Value = serde_json::from_str(&one).unwrap();
        let id = value["params"]["elicitationId"].as_str().unwrap();
        assert_eq!(id.len(), 32);
        assert_eq!(one.matches("elicitationId").count(), 1);
    }

    #[test]
    fn what_is_wanted_is_bounded_and_has_a_form() {
        let many = |count: usize| {
            let wish = |n| format!(r#""{n}":{{"method":"roots/list"}}"#);
            let wishes: Vec<_> = (0..count).map(wish).collect();
            Input::read(format!(r#"{{"inputRequests":{{{}}}}}"#, wishes.join(",")).as_bytes())
        };
        assert_eq!(many(32).unwrap().wishes.len(), 32);
        assert_eq!(many(33), None);
        for bad in [
            r#"{"inputRequests":{"a":{"method":1}}}"#,
            r#"{"inputRequests":{"a":{"method":"roots/list","params":[]}}}"#,
            r#"{"inputRequests":{"a":{"method":"roots/list"},"a":{"method":"roots/list"}}}"#,
            r#"{"inputRequests":{"a":null}}"#,
            r#"{"inputRequests":7}"#,
            r#"{"requestState":7}"#,
            "{}",
        ] {
            assert_eq!(Input::read(bad.as_bytes()), None, "{bad}");
        }
        let long = "k".repeat(2000);
        let long = format!(r#"{{"inputRequests":{{"{long}":{{"method":"roots/list"}}}}}}"#);
        assert_eq!(Input::read(long.as_bytes()), None);
    }

    #[test]
    fn answers_stand_under_the_keys_that_were_given() {
        let answers = [
            (&br#""a\u0041""#[..], &b"{}"[..]),
            (br#""b""#, br#"{"x":1e400}"#),
        ];
        let text = responses(answers.into_iter());
        assert_eq!(text, br#"{"a\u0041":{},"b":{"x":1e400}}"#);
    }
}
