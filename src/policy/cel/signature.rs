//! Which operators and functions there are, and for which types.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use jiff::tz::TimeZone;

use super::{
    check::{Check, Checked, Typed},
    clock,
    node::{Const, Function, Node, Operator, Part},
    place,
    types::Type,
};

impl Check<'_> {
    /// A call of a function, on a target or not.
    pub(super) fn function(&mut self, expr: &IdedExpr, call: &CallExpr) -> Checked<Typed> {
        let name = call.func_name.as_str();
        let is_member = call.target.is_some();
        if let (Some(target), Some(part)) = (&call.target, part(name)) {
            return self.clock(expr, part, target, &call.args);
        }
        let mut nodes = Vec::new();
        let mut kinds = Vec::new();
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            let (node, kind) = self.expression(argument)?;
            nodes.push(node);
            kinds.push(kind);
        }
        if name == "dyn" && !is_member && nodes.len() == 1 {
            return Ok((nodes.remove(0), Type::Dyn));
        }
        let Some((function, member)) = named(name) else {
            let message = format!("no function is named `{name}`");
            let help = place::instead(name, NAMES, FUNCTIONS);
            return Err(self.fault(expr, message, &help));
        };
        let outcome = outcome(function, &kinds).filter(|_| match member {
            Style::Global => !is_member,
            Style::Member => is_member,
            Style::Both => true,
        });
        let Some(outcome) = outcome else {
            let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
            let message = match (is_member, kinds.split_first()) {
                (true, Some((target, rest))) => {
                    format!("no `{target}.{name}({})`", rest.join(", "))
                }
                _ => format!("no `{name}({})`", kinds.join(", ")),
            };
            return Err(self.fault(expr, message, usage(function)));
        };
        let literal = matches!(function, Function::Timestamp | Function::Duration)
            .then(|| nodes.first())
            .flatten();
        if let Some(Node::Const(Const::Text(text))) = literal {
            let made = match function {
                Function::Timestamp => text.parse().ok().map(Const::Time),
                _ => clock::span(text).map(Const::Span),
            };
            let Some(made) = made else {
                let message = format!("not a {outcome}");
                return Err(self.fault(expr, message, usage(function)));
            };
            return Ok((Node::Const(made), outcome));
        }
        Ok((Node::Call(function, nodes), outcome))
    }

    fn clock(
        &mut self,
        expr: &IdedExpr,
        part: Part,
        target: &IdedExpr,
        args: &[IdedExpr],
    ) -> Checked<Typed> {
        let (node, kind) = self.expression(target)?;
        let unit = matches!(
            part,
            Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds
        );
        let fits = match kind {
            Type::Time | Type::Dyn => true,
            Type::Span => unit && args.is_empty(),
            _ => false,
        };
        if !fits {
            let message = format!("no parts of time in a value of type {kind}");
            return Err(self.fault(expr, message, "use it on `time`"));
        }
        let zone = match args {
            [] => Some(TimeZone::UTC),
            [argument] => match &argument.expr {
                Expr::Literal(LiteralValue::String(name)) => clock::zone(name.inner()),
                _ => None,
            },
            _ => None,
        };
        let Some(zone) = zone else {
            let help = "write a name such as \"Europe/Oslo\", or an offset such as \"+02:00\"";
            return Err(self.fault(expr, "not a time zone that is known here", help));
        };
        Ok((Node::Clock(part, Box::new(node), zone), Type::Int))
    }
}

/// The type that an operator gives, if it takes these.
pub(super) fn binary(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Type as T;
    let dynamic = left.is_dyn() || right.is_dyn();
    match operator {
        Operator::Equal | Operator::NotEqual => left.may_equal(right).then_some(T::Bool),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let ordered = |kind: &T| {
                kind.is_dyn()
                    || kind.is_number()
                    || matches!(kind, T::Bool | T::Text | T::Bytes | T::Time | T::Span)
            };
            let good = ordered(left) && ordered(right) && left.may_equal(right);
            good.then_some(T::Bool)
        }
        Operator::In => match right {
            T::List(element) => left.may_equal(element).then_some(T::Bool),
            T::Map(key, _) => left.may_equal(key).then_some(T::Bool),
            T::Dyn => Some(T::Bool),
            _ => None,
        },
        Operator::Add => match (left, right) {
            (T::Time, T::Span) | (T::Span, T::Time) => Some(T::Time),
            (T::List(_), T::List(_)) if left != right => Some(T::list()),
            (T::Span | T::Text | T::Bytes | T::List(_), _) if left == right => Some(left.clone()),
            _ => arithmetic(left, right, dynamic),
        },
        Operator::Subtract => match (left, right) {
            (T::Time, T::Time) => Some(T::Span),
            (T::Time, T::Span) => Some(T::Time),
            (T::Span, T::Span) => Some(T::Span),
            _ => arithmetic(left, right, dynamic),
        },
        Operator::Multiply | Operator::Divide => arithmetic(left, right, dynamic),
        Operator::Remainder => {
            let whole = |kind: &T| matches!(kind, T::Dyn | T::Int | T::Uint);
            arithmetic(left, right, dynamic).filter(|_| whole(left) && whole(right))
        }
    }
}

fn arithmetic(left: &Type, right: &Type, dynamic: bool) -> Option<Type> {
    if left.is_number() && left == right {
        return Some(left.clone());
    }
    dynamic.then_some(Type::Dyn)
}

/// How an operator is written.
pub(super) fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Remainder => "%",
        Operator::Equal => "==",
        Operator::NotEqual => "!=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::In => "in",
    }
}

/// What to write instead of an operator between types that it doesn't take.
pub(super) fn advice(operator: Operator, left: &Type, right: &Type) -> &'static str {
    match operator {
        Operator::In => "what stands on the right must be a list or a map of such values",
        Operator::Equal | Operator::NotEqual => "values of these types are never equal",
        _ if left.is_number() && right.is_number() => "convert one of them: int(…), double(…)",
        _ => "convert one of them, or compare something else",
    }
}

enum Style {
    Global,
    Member,
    Both,
}

fn named(name: &str) -> Option<(Function, Style)> {
    Some(match name {
        "size" => (Function::Size, Style::Both),
        "contains" => (Function::Contains, Style::Member),
        "startsWith" => (Function::StartsWith, Style::Member),
        "endsWith" => (Function::EndsWith, Style::Member),
        "bool" => (Function::Bool, Style::Global),
        "bytes" => (Function::Bytes, Style::Global),
        "double" => (Function::Double, Style::Global),
        "duration" => (Function::Duration, Style::Global),
        "int" => (Function::Int, Style::Global),
        "string" => (Function::String, Style::Global),
        "timestamp" => (Function::Timestamp, Style::Global),
        "type" => (Function::Type, Style::Global),
        "uint" => (Function::Uint, Style::Global),
        _ => return None,
    })
}

/// The type that a function gives, if it takes these.
fn outcome(function: Function, kinds: &[Type]) -> Option<Type> {
    use Type as T;
    let (takes, gives): (&[T], T) = match function {
        Function::Contains | Function::StartsWith | Function::EndsWith => {
            let [target, part] = kinds else { return None };
            let good = target.may_be(&T::Text) && part.may_be(&T::Text);
            return good.then_some(T::Bool);
        }
        Function::Size => {
            let [kind] = kinds else { return None };
            let good = matches!(kind, T::Dyn | T::Text | T::Bytes | T::List(_) | T::Map(..));
            return good.then_some(T::Int);
        }
        Function::Type => (&[], T::Name),
        Function::Bool => (&[T::Bool, T::Text], T::Bool),
        Function::Bytes => (&[T::Bytes, T::Text], T::Bytes),
        Function::Double => (&[T::Double, T::Int, T::Uint, T::Text], T::Double),
        Function::Duration => (&[T::Span, T::Text], T::Span),
        Function::Int => (&[T::Int, T::Uint, T::Double, T::Text, T::Time], T::Int),
        Function::Uint => (&[T::Uint, T::Int, T::Double, T::Text], T::Uint),
        Function::Timestamp => (&[T::Time, T::Text, T::Int], T::Time),
        Function::String => (
            &[
                T::Text,
                T::Int,
                T::Uint,
                T::Double,
                T::Bool,
                T::Bytes,
                T::Time,
                T::Span,
            ],
            T::Text,
        ),
    };
    let [kind] = kinds else { return None };
    let good = takes.is_empty() || takes.iter().any(|taken| kind.may_be(taken));
    good.then_some(gives)
}

fn part(name: &str) -> Option<Part> {
    Some(match name {
        "getFullYear" => Part::FullYear,
        "getMonth" => Part::Month,
        "getDate" => Part::Date,
        "getDayOfMonth" => Part::DayOfMonth,
        "getDayOfWeek" => Part::DayOfWeek,
        "getDayOfYear" => Part::DayOfYear,
        "getHours" => Part::Hours,
        "getMinutes" => Part::Minutes,
        "getSeconds" => Part::Seconds,
        "getMilliseconds" => Part::Milliseconds,
        _ => return None,
    })
}

fn usage(function: Function) -> &'static str {
    match function {
        Function::Size => "write size(x) for a string, a list or a map",
        Function::Contains | Function::StartsWith | Function::EndsWith => {
            "write it on a string, with a string in brackets"
        }
        Function::Duration => "write such as duration(\"1h30m\")",
        Function::Timestamp => "write such as timestamp(\"2030-01-31T12:00:00Z\")",
        _ => "it converts one value of another type",
    }
}

/// What a name that isn't known may be meant to be.
const NAMES: [&str; 20] = [
    "has",
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "all",
    "exists",
    "exists_one",
    "filter",
    "map",
    "type",
    "duration",
    "timestamp",
    "string",
    "getHours",
    "getMinutes",
    "getDayOfWeek",
    "getDate",
    "getFullYear",
];

const FUNCTIONS: &str = "there are has, size, contains, startsWith, endsWith, matches, all, \
                         exists, exists_one, filter, map, type, dyn, the conversions, and \
                         getHours and its kin on `time`";
