//! Functions of the standard library.

use jiff::{SignedDuration, Timestamp};

use super::{
    Failure, clock,
    eval::Run,
    node::{Function, Node},
    value::{List, Value},
};

type Outcome<'a> = Result<Value<'a>, Failure>;

impl<'a> Run<'a> {
    pub(super) fn call(&mut self, function: Function, arguments: &'a [Node]) -> Outcome<'a> {
        let [first, rest @ ..] = arguments else {
            return Err(Failure::Types);
        };
        let first = self.eval(first)?;
        let second = rest.first().map(|node| self.eval(node)).transpose()?;
        match (function, second) {
            (Function::Contains | Function::StartsWith | Function::EndsWith, Some(part)) => {
                let (Value::Text(text), Value::Text(part)) = (first, part) else {
                    return Err(Failure::Types);
                };
                self.look_at(text.len() + part.len())?;
                Ok(Value::Bool(match function {
                    Function::Contains => {
                        memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some()
                    }
                    Function::StartsWith => text.starts_with(&*part),
                    _ => text.ends_with(&*part),
                }))
            }
            (Function::Size, None) => self.size(first),
            (Function::Type, None) => Ok(Value::Type(first.type_name())),
            (function, None) => self.convert(function, first),
            _ => Err(Failure::Types),
        }
    }

    fn size(&mut self, value: Value<'a>) -> Outcome<'a> {
        let size = match value {
            Value::Text(text) => {
                self.look_at(text.len())?;
                text.chars().count()
            }
            Value::Bytes(bytes) => bytes.len(),
            Value::List(List::Made(values)) => values.len(),
            Value::List(List::Names(names)) => names.len(),
            Value::Map(map) => self.size_of_map(&map)?,
            list @ Value::List(_) => self.count(list)?,
            _ => return Err(Failure::Types),
        };
        i64::try_from(size)
            .map(Value::Int)
            .map_err(|_| Failure::Arithmetic)
    }

    fn convert(&mut self, function: Function, value: Value<'a>) -> Outcome<'a> {
        if let Value::Text(text) = &value {
            self.look_at(2 * text.len())?;
        }
        if let Value::Bytes(bytes) = &value {
            self.look_at(2 * bytes.len())?;
        }
        match function {
            Function::Bool => to_bool(value),
            Function::Bytes => match value {
                Value::Bytes(_) => Ok(value),
                Value::Text(text) => Ok(Value::Bytes(text.as_bytes().into())),
                _ => Err(Failure::Types),
            },
            Function::Double => to_double(value),
            Function::Duration => match value {
                Value::Span(_) => Ok(value),
                Value::Text(text) => clock::span(&text)
                    .map(Value::Span)
                    .ok_or(Failure::Conversion),
                _ => Err(Failure::Types),
            },
            Function::Int => to_int(value),
            Function::Uint => to_uint(value),
            Function::String => to_text(value),
            Function::Timestamp => match value {
                Value::Time(_) => Ok(value),
                Value::Text(text) => text
                    .parse()
                    .map(Value::Time)
                    .map_err(|_| Failure::Conversion),
                Value::Int(seconds) => Timestamp::from_second(seconds)
                    .map(Value::Time)
                    .map_err(|_| Failure::Conversion),
                _ => Err(Failure::Types),
            },
            _ => Err(Failure::Types),
        }
    }
}

fn to_bool(value: Value<'_>) -> Outcome<'_> {
    match value {
        Value::Bool(_) => Ok(value),
        Value::Text(text) => match &*text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(Failure::Conversion),
        },
        _ => Err(Failure::Types),
    }
}

fn to_double(value: Value<'_>) -> Outcome<'_> {
    match value {
        Value::Double(_) => Ok(value),
        Value::Int(int) => Ok(Value::Double(int as f64)),
        Value::Uint(uint) => Ok(Value::Double(uint as f64)),
        Value::Text(text) => text
            .parse()
            .map(Value::Double)
            .map_err(|_| Failure::Conversion),
        _ => Err(Failure::Types),
    }
}

fn to_int(value: Value<'_>) -> Outcome<'_> {
    let made = match value {
        Value::Int(int) => Some(int),
        Value::Uint(uint) => i64::try_from(uint).ok(),
        // Both bounds are exact doubles; the upper one is the first beyond.
        Value::Double(double) => (double > -TWO_63 && double < TWO_63).then_some(double as i64),
        Value::Text(text) => text.parse().ok(),
        Value::Time(time) => Some(time.as_second()),
        _ => return Err(Failure::Types),
    };
    made.map(Value::Int).ok_or(Failure::Conversion)
}

fn to_uint(value: Value<'_>) -> Outcome<'_> {
    let made = match value {
        Value::Uint(uint) => Some(uint),
        Value::Int(int) => u64::try_from(int).ok(),
        Value::Double(double) => (double > -1.0 && double < 2.0 * TWO_63).then_some(double as u64),
        Value::Text(text) => text.parse().ok(),
        _ => return Err(Failure::Types),
    };
    made.map(Value::Uint).ok_or(Failure::Conversion)
}

fn to_text(value: Value<'_>) -> Outcome<'_> {
    let text = match value {
        Value::Text(_) => return Ok(value),
        Value::Bool(value) => value.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Uint(uint) => uint.to_string(),
        Value::Double(double) => double.to_string(),
        Value::Bytes(bytes) => {
            String::from_utf8(bytes.to_vec()).map_err(|_| Failure::Conversion)?
        }
        Value::Time(time) => time.to_string(),
        Value::Span(span) => seconds(span),
        _ => return Err(Failure::Types),
    };
    Ok(Value::text(text))
}

/// A duration as protocol buffers write it: `5400s`, `-1.5s`.
fn seconds(span: SignedDuration) -> String {
    let sign = if span.is_negative() { "-" } else { "" };
    let (whole, below) = (
        span.as_secs().unsigned_abs(),
        span.subsec_nanos().unsigned_abs(),
    );
    if below == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{below:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

const TWO_63: f64 = 9_223_372_036_854_775_808.0;
