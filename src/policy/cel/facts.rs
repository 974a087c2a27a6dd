//! The variables of a condition.
//!
//! Owns their names and types. Invariant: each has a value for every message; where a message has
//! no such thing it is the empty text or the empty map, so that comparing it doesn't fail.

use std::{borrow::Cow, net::IpAddr, time::SystemTime};

use super::{
    Failure,
    types::Type,
    value::{List, Map, Text, Value},
};
use crate::principal::Principal;

/// What is known of a message.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The JSON-RPC method.
    pub method: &'a str,
    /// The tool of `tools/call`, else empty.
    pub tool: Cow<'a, str>,
    /// The prompt that is got or completed, else empty.
    pub prompt: Cow<'a, str>,
    /// The resource that is read, subscribed to or completed, else empty.
    pub uri: Cow<'a, str>,
    /// `params.arguments`, raw.
    pub args: Option<&'a [u8]>,
    /// Who asks.
    pub principal: &'a Principal,
    /// The backend's name.
    pub backend: &'a str,
    /// The session's digest.
    pub session: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// Now.
    pub time: SystemTime,
}

/// A variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Method,
    Tool,
    Args,
    Uri,
    Prompt,
    PrincipalName,
    PrincipalRoles,
    PrincipalClaims,
    Backend,
    Session,
    ClientAddress,
    Time,
}

/// The names that stand alone, and those that have members.
pub(super) const NAMES: [&str; 9] = [
    "method",
    "tool",
    "args",
    "uri",
    "prompt",
    "principal",
    "backend",
    "session",
    "client",
];
const TIME: &str = "time";

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain([TIME])
}

/// The members of a name that has some.
pub(super) fn members(name: &str) -> Option<&'static [(&'static str, Variable)]> {
    match name {
        "principal" => Some(&[
            ("name", Variable::PrincipalName),
            ("roles", Variable::PrincipalRoles),
            ("claims", Variable::PrincipalClaims),
        ]),
        "client" => Some(&[("address", Variable::ClientAddress)]),
        _ => None,
    }
}

impl Variable {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "method" => Self::Method,
            "tool" => Self::Tool,
            "args" => Self::Args,
            "uri" => Self::Uri,
            "prompt" => Self::Prompt,
            "backend" => Self::Backend,
            "session" => Self::Session,
            TIME => Self::Time,
            _ => return None,
        })
    }

    pub(super) fn kind(self) -> Type {
        match self {
            Self::Args | Self::PrincipalClaims => {
                Type::Map(Box::new(Type::Text), Box::new(Type::Dyn))
            }
            Self::PrincipalRoles => Type::List(Box::new(Type::Text)),
            Self::Time => Type::Time,
            _ => Type::Text,
        }
    }

    pub(super) fn value<'a>(self, facts: &'a Facts<'a>) -> Result<Value<'a>, Failure> {
        let text = |text: &'a str| Ok(Value::Text(Text::Borrowed(text)));
        match self {
            Self::Method => text(facts.method),
            Self::Tool => text(&facts.tool),
            Self::Prompt => text(&facts.prompt),
            Self::Uri => text(&facts.uri),
            Self::Backend => text(facts.backend),
            Self::Session => text(facts.session),
            Self::PrincipalName => text(facts.principal.name()),
            Self::PrincipalRoles => Ok(Value::List(List::Names(facts.principal.roles()))),
            Self::PrincipalClaims => {
                let claims = facts.principal.claims().unwrap_or(b"{}");
                Ok(Value::Map(Map::Json(claims)))
            }
            Self::Args => match facts.args {
                // Children take `null` for no arguments.
                None | Some(b"null") => Ok(Value::Map(Map::Json(b"{}"))),
                Some(raw) if raw.first() == Some(&b'{') => Ok(Value::Map(Map::Json(raw))),
                Some(_) => Err(Failure::Arguments),
            },
            Self::ClientAddress => {
                let address = facts.client.to_canonical().to_string();
                Ok(Value::Text(Text::Shared(address.into())))
            }
            Self::Time => jiff::Timestamp::try_from(facts.time)
                .map(Value::Time)
                .map_err(|_| Failure::Conversion),
        }
    }
}
