//! A checked expression.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::facts::Variable;
use crate::policy::pattern::Pattern;

/// An expression whose names are resolved and whose types are possible.
#[derive(Debug)]
pub(super) enum Node {
    Const(Const),
    Variable(Variable),
    /// The variable of the macro around it, counted from the outermost.
    Local(usize),
    /// `operand.field`
    Member(Box<Node>, Box<str>),
    /// `has(operand.field)`
    Has(Box<Node>, Box<str>),
    /// `operand[index]`
    Index(Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<[Node; 2]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// `condition ? yes : no`
    Choose(Box<[Node; 3]>),
    Binary(Operator, Box<[Node; 2]>),
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Box<Pattern>),
    /// A part of a point in time, in a time zone.
    Clock(Part, Box<Node>, TimeZone),
    Each(Macro, Box<Each>),
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Time(Timestamp),
    Span(SignedDuration),
    Type(&'static str),
}

/// An operator with two operands that are always both evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

/// A function of the standard library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Bool,
    Bytes,
    Double,
    Duration,
    Int,
    String,
    Timestamp,
    Type,
    Uint,
}

/// A part of a point in time, or a unit of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, a Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// A macro that goes through a list, or the keys of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// What a macro works with.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) range: Node,
    /// `map(x, filter, body)`
    pub(super) filter: Option<Node>,
    pub(super) body: Node,
}
