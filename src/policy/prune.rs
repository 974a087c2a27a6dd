//! Takes out of a list answer what its principal may not see.
//!
//! Owns the reading of the four list results, and what an error may say about a resource. Invariant: what stays, stays byte for byte; what
//! can't be read, goes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    frame::{Frame, Slot},
    policy::{Access, Denied},
};

/// What to take out of an answer; usually nothing.
#[derive(Debug, Clone)]
pub struct Prune(Option<Box<Change>>);

#[derive(Debug, Clone)]
enum Change {
    /// A list loses what may not be seen.
    List(List, Access),
    /// An error about a resource says no more than that there is none: what its child doesn't
    /// have is answered as what is hidden.
    Missing(String),
    /// Whatever the answer, it is this denial.
    Denial(Denied),
}

/// The lists that a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

/// What the child said can't be read, so nothing of it may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message can't be read")]
pub struct Unreadable;

impl Prune {
    /// Leaves the answer as it is.
    #[must_use]
    pub fn nothing() -> Self {
        Self(None)
    }

    pub(super) fn of_answer_to(method: &str, access: &Access) -> Self {
        let list = match method {
            "tools/list" => List::Tools,
            "prompts/list" => List::Prompts,
            "resources/list" => List::Resources,
            "resources/templates/list" => List::Templates,
            _ => return Self(None),
        };
        Self(Some(Box::new(Change::List(list, access.clone()))))
    }

    /// For a request about one resource, where others are hidden.
    pub(super) fn of_errors_about(uri: &str) -> Self {
        Self(Some(Box::new(Change::Missing(uri.to_owned()))))
    }

    /// For a request that is sent in the place of one that was denied.
    pub(super) fn to_denial(denied: Denied) -> Self {
        Self(Some(Box::new(Change::Denial(denied))))
    }

    /// The answer without what must not be seen.
    ///
    /// # Errors
    /// [`Unreadable`]: the answer must not pass at all.
    pub fn apply(&self, answer: Frame) -> Result<Frame, Unreadable> {
        match (self.0.as_deref(), answer.result()) {
            (Some(Change::List(list, access)), Some(result)) => {
                let result = prune(result, *list, access).ok_or(Unreadable)?;
                Ok(answer.rewritten(&[(Slot::Result, &result)]))
            }
            (Some(Change::Missing(uri)), None) => denial(&Denied::Resource(uri.clone()), &answer),
            (Some(Change::Denial(denied)), _) => denial(denied, &answer),
            _ => Ok(answer),
        }
    }
}

fn denial(denied: &Denied, answer: &Frame) -> Result<Frame, Unreadable> {
    let id = answer.id().unwrap_or_default();
    Frame::from_child(denied.response(id)).map_err(|_| Unreadable)
}

impl List {
    /// The request for it.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of the result that holds it.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// What an item is called by, if that is clear.
    pub(super) fn name_of(self, item: &Members<'_>) -> Option<String> {
        let key = match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        };
        let mut values = item.0.iter().filter(|(name, _)| name == key);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => serde_json::from_str(value.get()).ok(),
            _ => None,
        }
    }

    fn keeps(self, access: &Access, item: &Members<'_>) -> bool {
        let Some(name) = self.name_of(item) else {
            return false;
        };
        match self {
            Self::Tools => access.permits_tool(&name),
            Self::Prompts => access.permits_prompt(&name),
            Self::Resources | Self::Templates => access.permits_resource(&name),
        }
    }
}

fn prune(result: &[u8], list: List, access: &Access) -> Option<Vec<u8>> {
    let members: Members<'_> = serde_json::from_slice(result).ok()?;
    let mut out = Vec::with_capacity(result.len());
    out.push(b'{');
    for (name, value) in &members.0 {
        if out.len() > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, name).ok()?;
        out.push(b':');
        if name == list.field() {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            write_kept(&mut out, &items, list, access);
        } else {
            out.extend_from_slice(value.get().as_bytes());
        }
    }
    out.push(b'}');
    Some(out)
}

fn write_kept(out: &mut Vec<u8>, items: &[&RawValue], list: List, access: &Access) {
    let kept = items.iter().filter(|item| {
        serde_json::from_str::<Members<'_>>(item.get()).is_ok_and(|item| list.keeps(access, &item))
    });
    out.push(b'[');
    for (index, item) in kept.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item.get().as_bytes());
    }
    out.push(b']');
}

/// The members of an object in their order, doubles included, values raw.
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
