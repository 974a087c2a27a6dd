//! Evaluation.
//!
//! Owns the fuel. Invariants: each step and each look at a text costs, before it is made; once the
//! fuel is used up every further step fails, so that no `||` can hide it.

use std::rc::Rc;

use super::{
    Failure, clock,
    facts::Facts,
    node::{Each, Macro, Node},
    value::{List, Map, Text, Value},
};
use crate::policy::scan::{Elements, Members};

/// One evaluation.
pub(super) struct Run<'a> {
    facts: &'a Facts<'a>,
    /// Values of the variables of macros, outermost first.
    locals: Vec<Value<'a>>,
    fuel: u32,
}

impl<'a> Run<'a> {
    pub(super) fn new(facts: &'a Facts<'a>, fuel: u32) -> Self {
        Self {
            facts,
            locals: Vec::new(),
            fuel,
        }
    }

    pub(super) fn fuel_left(&self) -> u32 {
        self.fuel
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Failure> {
        let left = u32::try_from(steps)
            .ok()
            .and_then(|steps| self.fuel.checked_sub(steps));
        self.fuel = left.unwrap_or(0);
        left.map(drop).ok_or(Failure::Budget)
    }

    /// Pays for a look at so many bytes.
    pub(super) fn look_at(&mut self, bytes: usize) -> Result<(), Failure> {
        self.spend(bytes / super::BYTES_PER_STEP)
    }

    pub(super) fn eval(&mut self, node: &'a Node) -> Result<Value<'a>, Failure> {
        self.spend(1)?;
        match node {
            Node::Const(value) => Ok(Value::of(value)),
            Node::Variable(variable) => variable.value(self.facts),
            Node::Local(slot) => self.locals.get(*slot).cloned().ok_or(Failure::Types),
            Node::Member(operand, field) => {
                let operand = self.eval(operand)?;
                self.member(&operand, field)?.ok_or(Failure::Key)
            }
            Node::Has(operand, field) => {
                let operand = self.eval(operand)?;
                self.has(&operand, field).map(Value::Bool)
            }
            Node::Index(both) => {
                let (operand, index) = (self.eval(&both[0])?, self.eval(&both[1])?);
                self.index(&operand, &index)
            }
            Node::List(nodes) => {
                let values: Result<Rc<[_]>, _> = nodes.iter().map(|node| self.eval(node)).collect();
                Ok(Value::List(List::Made(values?)))
            }
            Node::Map(pairs) => self.map(pairs),
            Node::And(both) => self.junction(both, false),
            Node::Or(both) => self.junction(both, true),
            Node::Not(operand) => self.boolean(operand).map(|value| Value::Bool(!value)),
            Node::Negate(operand) => match self.eval(operand)? {
                Value::Int(int) => int.checked_neg().map(Value::Int).ok_or(Failure::Arithmetic),
                Value::Double(double) => Ok(Value::Double(-double)),
                _ => Err(Failure::Types),
            },
            Node::Choose(three) => {
                let [condition, yes, no] = &**three;
                let chosen = if self.boolean(condition)? { yes } else { no };
                self.eval(chosen)
            }
            Node::Binary(operator, both) => {
                let (left, right) = (self.eval(&both[0])?, self.eval(&both[1])?);
                self.operate(*operator, &left, &right)
            }
            Node::Call(function, arguments) => self.call(*function, arguments),
            Node::Matches(target, pattern) => match self.eval(target)? {
                Value::Text(text) => {
                    // An automaton reads byte by byte.
                    self.spend(text.len() / 8)?;
                    Ok(Value::Bool(pattern.is_match(text.as_bytes())))
                }
                _ => Err(Failure::Types),
            },
            Node::Clock(part, operand, zone) => {
                let operand = self.eval(operand)?;
                clock::part(&operand, *part, zone).map(Value::Int)
            }
            Node::Each(kind, each) => self.each(*kind, each),
        }
    }

    pub(super) fn boolean(&mut self, node: &'a Node) -> Result<bool, Failure> {
        match self.eval(node)? {
            Value::Bool(value) => Ok(value),
            _ => Err(Failure::Types),
        }
    }

    /// `&&` and `||`: `decisive` on either side decides, even beside a failure.
    fn junction(&mut self, both: &'a [Node; 2], decisive: bool) -> Result<Value<'a>, Failure> {
        let left = self.boolean(&both[0]);
        if left == Ok(decisive) {
            return Ok(Value::Bool(decisive));
        }
        let right = self.boolean(&both[1]);
        if right == Ok(decisive) {
            return Ok(Value::Bool(decisive));
        }
        left.and(right).map(Value::Bool)
    }

    fn map(&mut self, pairs: &'a [[Node; 2]]) -> Result<Value<'a>, Failure> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(pairs.len());
        for [key, value] in pairs {
            let key = self.eval(key)?;
            if !matches!(
                key,
                Value::Text(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_)
            ) {
                return Err(Failure::Types);
            }
            for (other, _) in &made {
                if self.equal(&key, other)? {
                    return Err(Failure::Key);
                }
            }
            let value = self.eval(value)?;
            made.push((key, value));
        }
        Ok(Value::Map(Map::Made(made.into())))
    }

    fn each(&mut self, kind: Macro, each: &'a Each) -> Result<Value<'a>, Failure> {
        let mut items = Items::of(self.eval(&each.range)?)?;
        let mut made = Vec::new();
        let mut count = 0_usize;
        let mut failure = None;
        while let Some(item) = items.next(self)? {
            self.locals.push(item.clone());
            let outcome = self.step(kind, each, &mut made, item);
            self.locals.pop();
            match (kind, outcome) {
                (_, Err(Failure::Budget)) => return Err(Failure::Budget),
                (Macro::All, Ok(false)) => return Ok(Value::Bool(false)),
                (Macro::Exists, Ok(true)) => return Ok(Value::Bool(true)),
                // A later element may still decide.
                (Macro::All | Macro::Exists, Err(error)) => failure = Some(error),
                (_, Err(error)) => return Err(error),
                (_, Ok(holds)) => count += usize::from(holds),
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        Ok(match kind {
            Macro::All => Value::Bool(true),
            Macro::Exists => Value::Bool(false),
            Macro::ExistsOne => Value::Bool(count == 1),
            Macro::Filter | Macro::Map => Value::List(List::Made(made.into())),
        })
    }

    fn step(
        &mut self,
        kind: Macro,
        each: &'a Each,
        made: &mut Vec<Value<'a>>,
        item: Value<'a>,
    ) -> Result<bool, Failure> {
        match kind {
            Macro::Map => {
                let wanted = match &each.filter {
                    Some(filter) => self.boolean(filter)?,
                    None => true,
                };
                if wanted {
                    made.push(self.eval(&each.body)?);
                }
                Ok(wanted)
            }
            Macro::Filter => {
                let wanted = self.boolean(&each.body)?;
                if wanted {
                    made.push(item);
                }
                Ok(wanted)
            }
            Macro::All | Macro::Exists | Macro::ExistsOne => self.boolean(&each.body),
        }
    }
}

/// The elements of a list or the keys of a map, one after the other.
pub(super) enum Items<'a> {
    Elements(Elements<'a>),
    Names(std::slice::Iter<'a, String>),
    Values(Rc<[Value<'a>]>, usize),
    Members(Members<'a>),
    Keys(Rc<[(Value<'a>, Value<'a>)]>, usize),
}

impl<'a> Items<'a> {
    pub(super) fn of(value: Value<'a>) -> Result<Self, Failure> {
        match value {
            Value::List(List::Json(raw)) => Ok(Self::Elements(Elements::of(raw))),
            Value::List(List::Names(names)) => Ok(Self::Names(names.iter())),
            Value::List(List::Made(values)) => Ok(Self::Values(values, 0)),
            Value::Map(Map::Json(raw)) => Ok(Self::Members(Members::of(raw))),
            Value::Map(Map::Made(pairs)) => Ok(Self::Keys(pairs, 0)),
            _ => Err(Failure::Types),
        }
    }

    pub(super) fn next(&mut self, run: &mut Run<'a>) -> Result<Option<Value<'a>>, Failure> {
        run.spend(1)?;
        match self {
            Self::Elements(elements) => match elements.next() {
                Some(raw) => {
                    run.look_at(raw.len())?;
                    run.read(raw).map(Some)
                }
                None => Ok(None),
            },
            Self::Names(names) => Ok(names.next().map(|name| Value::Text(Text::Borrowed(name)))),
            Self::Values(values, at) => {
                *at += 1;
                Ok(values.get(*at - 1).cloned())
            }
            Self::Members(members) => match members.next() {
                Some((key, value)) => {
                    run.look_at(key.len() + value.len())?;
                    run.read_text(key).map(|text| Some(Value::Text(text)))
                }
                None => Ok(None),
            },
            Self::Keys(pairs, at) => {
                *at += 1;
                Ok(pairs.get(*at - 1).map(|(key, _)| key.clone()))
            }
        }
    }
}
