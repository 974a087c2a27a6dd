//! Values: parts of the message where they stand, and what was made of them.

use std::{ops::Deref, rc::Rc};

use jiff::{SignedDuration, Timestamp};

use super::node::Const;

/// A value. Cloning copies no text.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Rc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    Time(Timestamp),
    Span(SignedDuration),
    Type(&'static str),
}

/// A text.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A list.
#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    /// An array of the message, raw.
    Json(&'a [u8]),
    Names(&'a [String]),
    Made(Rc<[Value<'a>]>),
}

/// A map.
#[derive(Debug, Clone)]
pub(super) enum Map<'a> {
    /// An object of the message, raw.
    Json(&'a [u8]),
    Made(Rc<[(Value<'a>, Value<'a>)]>),
}

impl<'a> Value<'a> {
    pub(super) fn of(literal: &'a Const) -> Self {
        match literal {
            Const::Null => Self::Null,
            Const::Bool(value) => Self::Bool(*value),
            Const::Int(value) => Self::Int(*value),
            Const::Uint(value) => Self::Uint(*value),
            Const::Double(value) => Self::Double(*value),
            Const::Text(text) => Self::Text(Text::Borrowed(text)),
            Const::Bytes(bytes) => Self::Bytes(bytes.as_ref().into()),
            Const::Time(time) => Self::Time(*time),
            Const::Span(span) => Self::Span(*span),
            Const::Type(name) => Self::Type(name),
        }
    }

    pub(super) fn text(text: String) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    /// What `type(value)` is.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Span(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
        }
    }
}

/// The names of types that an expression may use as values.
pub(super) const TYPE_NAMES: [&str; 10] = [
    "null_type",
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "type",
];
