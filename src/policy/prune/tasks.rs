//! Answers of a child on which nobody has tasks.
//!
//! Owns what such answers say of tasks. Invariant: a tool is listed as one that is simply called, and
//! one that can't be is answered so that its caller understands.

use serde_json::value::RawValue;

use super::{Members, Unreadable};
use crate::{
    frame::{self, Frame, Slot},
    policy::scan,
};

/// What is answered, as far as tasks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taskless {
    /// `tools/list`.
    Listed,
    /// `tools/call`.
    Called,
}

impl Taskless {
    pub(super) fn of(method: &str) -> Option<Self> {
        match method {
            "tools/list" => Some(Self::Listed),
            "tools/call" => Some(Self::Called),
            _ => None,
        }
    }

    pub(super) fn apply(self, answer: Frame) -> Result<Frame, Unreadable> {
        match (self, answer.result()) {
            (Self::Listed, Some(result)) => match unmarked(result).ok_or(Unreadable)? {
                Some(result) => Ok(answer.rewritten(&[(Slot::Result, &result)])),
                None => Ok(answer),
            },
            (Self::Called, None) if wants_a_task(&answer) => {
                let id = answer.id().unwrap_or_default();
                let result = serde_json::json!({
                    "content": [{ "type": "text", "text": ONLY_AS_TASK }],
                    "isError": true,
                });
                let said = frame::result_response(id, result.to_string().as_bytes());
                Frame::from_child(said).map_err(|_| Unreadable)
            }
            _ => Ok(answer),
        }
    }
}

/// How a child refuses a call that should have been a task (2025-11-25, basic/utilities/tasks). Many
/// refuse a tool that they don't have with the same code, and say nothing of tasks.
fn wants_a_task(answer: &Frame) -> bool {
    let says = |error: &[u8]| error.to_ascii_lowercase();
    answer.error_code() == Some(-32601)
        && answer
            .error()
            .is_some_and(|error| memchr::memmem::find(&says(error), b"task").is_some())
}

/// The result of `tools/list` without `execution`; `Some(None)`: nothing in it says so.
#[allow(clippy::option_option, reason = "unreadable, unchanged, changed")]
fn unmarked(result: &[u8]) -> Option<Option<Vec<u8>>> {
    let marked = memchr::memmem::find(result, b"execution").is_some();
    if !marked && memchr::memchr(b'\\', result).is_none() {
        return Some(None);
    }
    let members: Members<'_> = serde_json::from_slice(result).ok()?;
    let members = members.0.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "tools" => tools(value)?,
            _ => value.get().as_bytes().to_vec(),
        };
        Some((name.as_str(), value))
    });
    object(members).map(Some)
}

fn tools(list: &RawValue) -> Option<Vec<u8>> {
    let mut out = vec![b'['];
    for tool in scan::Elements::of(list.get().as_bytes()) {
        if out.len() > 1 {
            out.push(b',');
        }
        match serde_json::from_slice::<Members<'_>>(tool) {
            Ok(tool) => {
                let kept = tool.0.iter().filter(|(name, _)| name != "execution");
                let kept =
                    kept.map(|(name, value)| Some((&**name, value.get().as_bytes().to_vec())));
                out.extend(object(kept)?);
            }
            // No object: it has no member to lose.
            Err(_) => out.extend_from_slice(tool),
        }
    }
    out.push(b']');
    Some(out)
}

fn object<'a>(members: impl Iterator<Item = Option<(&'a str, Vec<u8>)>>) -> Option<Vec<u8>> {
    let mut out = vec![b'{'];
    for member in members {
        let (name, value) = member?;
        if out.len() > 1 {
            out.push(b',');
        }
        frame::quote(name, &mut out);
        out.push(b':');
        out.extend(value);
    }
    out.push(b'}');
    Some(out)
}

const ONLY_AS_TASK: &str = "This tool can only be called as a task, which a server that several clients share doesn't offer.";

#[cfg(test)]
mod tests {
    use super::super::Prune;
    use crate::frame::Frame;

    fn pruned(method: &str, answer: &str) -> String {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#);
        let prune = Prune::nothing().without_tasks(method);
        let frame = prune
            .apply(Frame::from_child(text.into()).unwrap())
            .unwrap();
        String::from_utf8(frame.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_tool_is_listed_without_what_it_says_of_tasks() {
        for (came, goes) in [
            (
                r#"{"tools":[{"name":"a","execution":{"taskSupport":"required"},"x":1e400},7],"nextCursor":"n"}"#,
                r#"{"tools":[{"name":"a","x":1e400},7],"nextCursor":"n"}"#,
            ),
            (
                r#"{"tools":[{"name":"execution"},{"execut\u0069on":{},"name":"b"}]}"#,
                r#"{"tools":[{"name":"execution"},{"name":"b"}]}"#,
            ),
            (r#"{"tools":[{"name":"a"}]}"#, r#"{"tools":[{"name":"a"}]}"#),
        ] {
            let passed = pruned("tools/list", &format!(r#""result":{came}"#));
            assert!(passed.contains(goes), "{passed}");
        }
        let other = r#""result":{"tools":[{"execution":1}]}"#;
        assert!(pruned("tools/call", other).contains(other));
    }

    #[test]
    fn a_tool_that_must_be_a_task_says_so_as_its_result() {
        let refused = r#""error":{"code":-32601,"message":"as a task"}"#;
        let passed = pruned("tools/call", refused);
        assert!(passed.contains(r#""isError":true"#), "{passed}");
        assert!(pruned("tools/list", refused).contains(refused));
        for other in [
            r#""error":{"code":-32602,"message":"no such task"}"#,
            r#""error":{"code":-32601,"message":"Unknown tool: x"}"#,
        ] {
            assert!(pruned("tools/call", other).contains(other));
        }
    }
}
