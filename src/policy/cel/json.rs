//! Reading parts of the message as values.
//!
//! Invariant: what this reads in a text is what any other parser reads in it, or it fails.

use super::{
    Failure,
    eval::Run,
    value::{List, Map, Text, Value},
};
use crate::{
    frame::{folds_to, unescape},
    policy::scan::Members,
};

use std::borrow::Cow;

impl<'a> Run<'a> {
    /// The value of raw JSON.
    pub(super) fn read(&mut self, raw: &'a [u8]) -> Result<Value<'a>, Failure> {
        self.spend(1)?;
        Ok(match raw.first() {
            Some(b'"') => Value::Text(self.read_text(raw)?),
            Some(b'{') => Value::Map(Map::Json(raw)),
            Some(b'[') => Value::List(List::Json(raw)),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') => Value::Null,
            _ => number(raw)?,
        })
    }

    pub(super) fn read_text(&mut self, raw: &'a [u8]) -> Result<Text<'a>, Failure> {
        self.look_at(raw.len())?;
        Ok(match unescape(raw).ok_or(Failure::Types)? {
            Cow::Borrowed(text) => Text::Borrowed(text),
            Cow::Owned(text) => Text::Shared(text.into()),
        })
    }

    /// The value of a member, raw.
    ///
    /// A key that only case folding makes the wanted one is refused: a child in Go would take it.
    pub(super) fn find(
        &mut self,
        object: &'a [u8],
        key: &str,
    ) -> Result<Option<&'a [u8]>, Failure> {
        self.look_at(object.len())?;
        let mut found = None;
        for (name, value) in Members::of(object) {
            self.spend(1)?;
            let name = unescape(name).ok_or(Failure::Types)?;
            if name == key {
                found = Some(value);
            } else if folds_to(name.as_bytes(), key.as_bytes()) {
                return Err(Failure::LookAlike);
            }
        }
        Ok(found)
    }
}

/// A number that reads alike everywhere: whole numbers that a double holds exactly, since many
/// parsers know nothing else, and finite fractions.
fn number(raw: &[u8]) -> Result<Value<'static>, Failure> {
    let text = std::str::from_utf8(raw).map_err(|_| Failure::Number)?;
    let double: f64 = text.parse().map_err(|_| Failure::Number)?;
    if !double.is_finite() {
        return Err(Failure::Number);
    }
    if raw.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Ok(Value::Double(double));
    }
    let whole: i128 = text.parse().map_err(|_| Failure::Number)?;
    if double as i128 != whole {
        return Err(Failure::Number);
    }
    if let Ok(int) = i64::try_from(whole) {
        return Ok(Value::Int(int));
    }
    u64::try_from(whole)
        .map(Value::Uint)
        .map_err(|_| Failure::Number)
}
