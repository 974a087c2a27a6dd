//! Operators and access to members and elements.

use std::{cmp::Ordering, rc::Rc};

use super::{
    Failure,
    eval::{Items, Run},
    node::Operator,
    value::{List, Map, Text, Value},
};
use crate::policy::scan::Elements;

type Outcome<'a> = Result<Value<'a>, Failure>;

impl<'a> Run<'a> {
    pub(super) fn operate(
        &mut self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Outcome<'a> {
        let ordered = |run: &mut Self, wanted: fn(Ordering) -> bool| {
            let ordering = run.compare(left, right)?;
            // Nothing is more or less than "not a number".
            Ok(Value::Bool(ordering.is_some_and(wanted)))
        };
        match operator {
            Operator::Equal => self.equal(left, right).map(Value::Bool),
            Operator::NotEqual => self.equal(left, right).map(|equal| Value::Bool(!equal)),
            Operator::Less => ordered(self, Ordering::is_lt),
            Operator::LessOrEqual => ordered(self, Ordering::is_le),
            Operator::Greater => ordered(self, Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(self, Ordering::is_ge),
            Operator::In => self.contains(right, left).map(Value::Bool),
            Operator::Add => self.add(left, right),
            _ => arithmetic(operator, left, right),
        }
    }

    pub(super) fn member(
        &mut self,
        operand: &Value<'a>,
        field: &str,
    ) -> Result<Option<Value<'a>>, Failure> {
        match operand {
            Value::Map(Map::Json(raw)) => match self.find(raw, field)? {
                Some(value) => self.read(value).map(Some),
                None => Ok(None),
            },
            Value::Map(Map::Made(pairs)) => {
                self.spend(pairs.len())?;
                let is_field = |key: &Value<'_>| matches!(key, Value::Text(key) if **key == *field);
                let found = pairs.iter().find(|(key, _)| is_field(key));
                Ok(found.map(|(_, value)| value.clone()))
            }
            _ => Err(Failure::Types),
        }
    }

    pub(super) fn has(&mut self, operand: &Value<'a>, field: &str) -> Result<bool, Failure> {
        match operand {
            Value::Map(Map::Json(raw)) => Ok(self.find(raw, field)?.is_some()),
            _ => Ok(self.member(operand, field)?.is_some()),
        }
    }

    pub(super) fn index(&mut self, operand: &Value<'a>, index: &Value<'a>) -> Outcome<'a> {
        match (operand, index) {
            (Value::Map(Map::Json(_)), Value::Text(key)) => {
                self.member(operand, key)?.ok_or(Failure::Key)
            }
            (Value::Map(_), _) if !is_key(index) => Err(Failure::Types),
            (Value::Map(Map::Json(_)), _) => Err(Failure::Key),
            (Value::Map(Map::Made(pairs)), _) => {
                for (key, value) in pairs.iter() {
                    if self.equal(key, index)? {
                        return Ok(value.clone());
                    }
                }
                Err(Failure::Key)
            }
            (Value::List(list), _) => {
                let at = position(index)?;
                self.element(list, at)
            }
            _ => Err(Failure::Types),
        }
    }

    fn element(&mut self, list: &List<'a>, at: usize) -> Outcome<'a> {
        match list {
            List::Json(raw) => {
                self.look_at(raw.len())?;
                self.spend(at.min(raw.len()))?;
                let element = Elements::of(raw).nth(at).ok_or(Failure::Index)?;
                self.read(element)
            }
            List::Names(names) => {
                let name = names.get(at).ok_or(Failure::Index)?;
                Ok(Value::Text(Text::Borrowed(name)))
            }
            List::Made(values) => values.get(at).cloned().ok_or(Failure::Index),
        }
    }

    /// `needle in haystack`
    fn contains(&mut self, haystack: &Value<'a>, needle: &Value<'a>) -> Result<bool, Failure> {
        match (haystack, needle) {
            (Value::Map(Map::Json(raw)), Value::Text(key)) => Ok(self.find(raw, key)?.is_some()),
            (Value::Map(_), _) if !is_key(needle) => Err(Failure::Types),
            (Value::List(_) | Value::Map(_), _) => {
                let mut items = Items::of(haystack.clone())?;
                while let Some(item) = items.next(self)? {
                    if self.equal(&item, needle)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Err(Failure::Types),
        }
    }

    /// Numbers are equal across their types; values of other different types never are.
    pub(super) fn equal(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool, Failure> {
        self.spend(1)?;
        Ok(match (left, right) {
            (Value::Null, Value::Null) => true,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::List(_), Value::List(_)) => self.equal_lists(left, right)?,
            (Value::Map(a), Value::Map(b)) => self.equal_maps(a, b)?,
            _ => match self.compare(left, right) {
                Ok(ordering) => ordering == Some(Ordering::Equal),
                Err(Failure::Types) => false,
                Err(failure) => return Err(failure),
            },
        })
    }

    fn equal_lists(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool, Failure> {
        let (mut left, mut right) = (Items::of(left.clone())?, Items::of(right.clone())?);
        loop {
            match (left.next(self)?, right.next(self)?) {
                (None, None) => return Ok(true),
                (Some(a), Some(b)) if self.equal(&a, &b)? => {}
                _ => return Ok(false),
            }
        }
    }

    fn equal_maps(&mut self, left: &Map<'a>, right: &Map<'a>) -> Result<bool, Failure> {
        if self.size_of_map(left)? != self.size_of_map(right)? {
            return Ok(false);
        }
        let mut keys = Items::of(Value::Map(left.clone()))?;
        while let Some(key) = keys.next(self)? {
            let (left, right) = (Value::Map(left.clone()), Value::Map(right.clone()));
            let mine = self.index(&left, &key)?;
            let other = match self.index(&right, &key) {
                Err(Failure::Key) => return Ok(false),
                other => other?,
            };
            if !self.equal(&mine, &other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn size_of_map(&mut self, map: &Map<'a>) -> Result<usize, Failure> {
        match map {
            Map::Made(pairs) => Ok(pairs.len()),
            Map::Json(_) => self.count(Value::Map(map.clone())),
        }
    }

    /// How many elements or keys there are, by going through them.
    pub(super) fn count(&mut self, value: Value<'a>) -> Result<usize, Failure> {
        let mut items = Items::of(value)?;
        let mut count = 0;
        while items.next(self)?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// The order of two values; none beside "not a number".
    fn compare(
        &mut self,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<Option<Ordering>, Failure> {
        Ok(Some(match (left, right) {
            (Value::Text(a), Value::Text(b)) => {
                self.look_at(a.len().min(b.len()))?;
                a.as_bytes().cmp(b.as_bytes())
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                self.look_at(a.len().min(b.len()))?;
                a.cmp(b)
            }
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Span(a), Value::Span(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => return Ok(a.partial_cmp(b)),
            (Value::Double(a), _) => {
                let whole = whole(right).ok_or(Failure::Types)?;
                return Ok(beside(whole, *a).map(Ordering::reverse));
            }
            (_, Value::Double(b)) => {
                let whole = whole(left).ok_or(Failure::Types)?;
                return Ok(beside(whole, *b));
            }
            _ => {
                let (a, b) = (whole(left), whole(right));
                a.ok_or(Failure::Types)?.cmp(&b.ok_or(Failure::Types)?)
            }
        }))
    }

    fn add(&mut self, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
        match (left, right) {
            (Value::Text(a), Value::Text(b)) => {
                self.look_at(2 * (a.len() + b.len()))?;
                Ok(Value::text([&**a, &**b].concat()))
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                self.look_at(2 * (a.len() + b.len()))?;
                Ok(Value::Bytes([&**a, &**b].concat().into()))
            }
            (Value::List(_), Value::List(_)) => {
                let mut made = Vec::new();
                for list in [left, right] {
                    let mut items = Items::of(list.clone())?;
                    while let Some(item) = items.next(self)? {
                        made.push(item);
                    }
                }
                Ok(Value::List(List::Made(Rc::from(made))))
            }
            (Value::Time(time), Value::Span(span)) | (Value::Span(span), Value::Time(time)) => time
                .checked_add(*span)
                .map(Value::Time)
                .map_err(|_| Failure::Arithmetic),
            (Value::Span(a), Value::Span(b)) => a
                .checked_add(*b)
                .map(Value::Span)
                .ok_or(Failure::Arithmetic),
            _ => arithmetic(Operator::Add, left, right),
        }
    }
}

fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    let made = match (left, right) {
        (Value::Int(a), Value::Int(b)) => match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            Operator::Multiply => a.checked_mul(*b),
            Operator::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Int),
        (Value::Uint(a), Value::Uint(b)) => match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            Operator::Multiply => a.checked_mul(*b),
            Operator::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Uint),
        (Value::Double(a), Value::Double(b)) => Some(Value::Double(match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide => a / b,
            _ => return Err(Failure::Types),
        })),
        (Value::Time(a), Value::Time(b)) if operator == Operator::Subtract => {
            Some(Value::Span(a.duration_since(*b)))
        }
        (Value::Time(a), Value::Span(b)) if operator == Operator::Subtract => {
            a.checked_sub(*b).ok().map(Value::Time)
        }
        (Value::Span(a), Value::Span(b)) if operator == Operator::Subtract => {
            a.checked_sub(*b).map(Value::Span)
        }
        _ => return Err(Failure::Types),
    };
    made.ok_or(Failure::Arithmetic)
}

/// True for what may be a key, and for doubles, which may equal one.
fn is_key(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_)
    )
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(int) => Some(i128::from(*int)),
        Value::Uint(uint) => Some(i128::from(*uint)),
        _ => None,
    }
}

/// A whole number of at most 64 bits beside a double, exactly.
fn beside(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Saturates far beyond 64 bits.
    let below = double.floor() as i128;
    let order = whole.cmp(&below);
    let fraction = double > double.floor();
    Some(if order.is_eq() && fraction {
        Ordering::Less
    } else {
        order
    })
}

fn position(index: &Value<'_>) -> Result<usize, Failure> {
    match index {
        Value::Int(int) => usize::try_from(*int).map_err(|_| Failure::Index),
        Value::Uint(uint) => usize::try_from(*uint).map_err(|_| Failure::Index),
        Value::Double(double) if double.fract() == 0.0 && (0.0..1e15).contains(double) => {
            Ok(*double as usize)
        }
        Value::Double(_) => Err(Failure::Index),
        _ => Err(Failure::Types),
    }
}
