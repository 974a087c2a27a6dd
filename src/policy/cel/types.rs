//! Types, as far as they are known before a message is.
//!
//! Owns which type may stand where another is wanted.

use std::fmt;

/// The type of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Known only when there is a value.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Time,
    Span,
    /// The type of names of types.
    Name,
}

impl Type {
    pub(super) fn list() -> Self {
        Self::List(Box::new(Self::Dyn))
    }

    pub(super) fn is_dyn(&self) -> bool {
        *self == Self::Dyn
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// True when a value of this type may be one of `other`.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(a), Self::List(b)) => a.may_be(b),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.may_be(other_key) && value.may_be(other_value)
            }
            _ => self == other,
        }
    }

    /// True when values of both may be equal: numbers are compared across their types.
    pub(super) fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.may_equal(b),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.may_equal(other_key) && value.may_equal(other_value)
            }
            _ => (self.is_number() && other.is_number()) || self.may_be(other),
        }
    }

    /// The one type of both, or that of anything.
    pub(super) fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Dyn }
    }

    /// What a macro such as `all` goes through.
    pub(super) fn element(&self) -> Option<Self> {
        match self {
            Self::Dyn => Some(Self::Dyn),
            Self::List(element) => Some((**element).clone()),
            Self::Map(key, _) => Some((**key).clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Time => f.write_str("timestamp"),
            Self::Span => f.write_str("duration"),
            Self::Name => f.write_str("type"),
        }
    }
}
