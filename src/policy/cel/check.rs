//! From text to a checked expression: every name is known, every type possible.
//!
//! Owns the use of the parser and what is said about a bad expression. Invariant: what passes here
//! fails at run time only for reasons that lie in the message.

use cel::{
    Env,
    common::ast::{
        CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators,
    },
};

use super::{
    Fault,
    facts::{self, Variable},
    macros,
    node::{Const, Node, Operator},
    place::{self, whole},
    signature,
    types::Type,
    value::TYPE_NAMES,
};

/// Checks a condition; gives also the variables that it reads.
pub(super) fn condition(text: &str) -> Result<(Node, Vec<Variable>), Vec<Fault>> {
    if text.len() > MAX_LENGTH {
        let message = format!("longer than {MAX_LENGTH} bytes");
        return Err(vec![whole(text, &message, "write several rules")]);
    }
    // The parser calls itself for each level of an expression, so it gets a stack that the longest
    // text can't fill.
    let checked = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, || parse_and_check(text)).ok()?;
        thread.join().ok()
    });
    let gave_up = || {
        vec![whole(
            text,
            "this expression can't be parsed",
            "write it otherwise",
        )]
    };
    checked.unwrap_or_else(|| Err(gave_up()))
}

fn parse_and_check(text: &str) -> Result<(Node, Vec<Variable>), Vec<Fault>> {
    // Macros stay calls, so that faults can speak of what was written.
    let env = Env::default().with_optional_support(false);
    let program = env.compile(text).map_err(|errors| {
        // What follows the first one mostly follows from it.
        let first = errors.errors.first();
        let fault = first.map(|error| place::syntax(text, error.pos, &error.msg));
        vec![fault.unwrap_or_else(|| whole(text, "not an expression", "write a condition"))]
    })?;
    let mut check = Check {
        text,
        places: program.source_info(),
        locals: Vec::new(),
        reads: Vec::new(),
        depth: 0,
    };
    let root = program.expression();
    let (node, kind) = check.expression(root).map_err(|fault| vec![fault])?;
    if !kind.may_be(&Type::Bool) {
        let message = format!("the outcome is of type {kind}, not bool");
        return Err(vec![check.fault(
            root,
            message,
            "compare it with something",
        )]);
    }
    Ok((node, check.reads))
}

pub(super) type Typed = (Node, Type);
pub(super) type Checked<T> = Result<T, Fault>;

/// One expression while it is checked.
pub(super) struct Check<'a> {
    pub(super) text: &'a str,
    pub(super) places: &'a SourceInfo,
    /// Variables of macros, outermost first.
    pub(super) locals: Vec<(String, Type)>,
    reads: Vec<Variable>,
    depth: usize,
}

impl Check<'_> {
    pub(super) fn expression(&mut self, expr: &IdedExpr) -> Checked<Typed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault(expr, "nested too deep", "write several rules"));
        }
        let typed = self.any(expr);
        self.depth -= 1;
        typed
    }

    fn any(&mut self, expr: &IdedExpr) -> Checked<Typed> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => self.select(expr, select),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(list) => {
                let mut element: Option<Type> = None;
                let mut nodes = Vec::with_capacity(list.elements.len());
                for item in &list.elements {
                    let (node, kind) = self.expression(item)?;
                    element = Some(element.map_or(kind.clone(), |known| known.join(kind)));
                    nodes.push(node);
                }
                let element = element.unwrap_or(Type::Dyn);
                Ok((Node::List(nodes), Type::List(Box::new(element))))
            }
            Expr::Map(map) => self.map(expr, map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(_) => Err(self.fault(expr, "messages are not supported", "use a map")),
            Expr::Comprehension(_) | Expr::Unspecified => {
                Err(self.fault(expr, "not an expression", "write a condition"))
            }
        }
    }

    fn name(&mut self, expr: &IdedExpr, name: &str) -> Checked<Typed> {
        if let Some(slot) = self.locals.iter().rposition(|(local, _)| local == name) {
            return Ok((Node::Local(slot), self.locals[slot].1.clone()));
        }
        if let Some(variable) = Variable::named(name) {
            return Ok(self.variable(variable));
        }
        if let Some(members) = facts::members(name) {
            let known: Vec<_> = members.iter().map(|(member, _)| *member).collect();
            let help = format!("write `{name}.{}`", known.join(&format!("` or `{name}.")));
            return Err(self.fault(expr, format!("`{name}` is no value of its own"), &help));
        }
        if let Some(known) = TYPE_NAMES.iter().find(|known| **known == name) {
            return Ok((Node::Const(Const::Type(known)), Type::Name));
        }
        let known: Vec<_> = facts::names().collect();
        let all = format!("the variables are {}", known.join(", "));
        let help = place::instead(name, known, &all);
        Err(self.fault(expr, format!("no variable is named `{name}`"), &help))
    }

    fn variable(&mut self, variable: Variable) -> Typed {
        if !self.reads.contains(&variable) {
            self.reads.push(variable);
        }
        (Node::Variable(variable), variable.kind())
    }

    pub(super) fn select(&mut self, expr: &IdedExpr, select: &SelectExpr) -> Checked<Typed> {
        let root = match &select.operand.expr {
            Expr::Ident(name) if !self.locals.iter().any(|(local, _)| local == name) => Some(name),
            _ => None,
        };
        if let Some((name, members)) = root.and_then(|name| Some((name, facts::members(name)?))) {
            let found = members.iter().find(|(member, _)| *member == select.field);
            return match found {
                Some((_, variable)) => Ok(self.variable(*variable)),
                None => {
                    let known: Vec<_> = members.iter().map(|(member, _)| *member).collect();
                    let message = format!("`{name}` has no `{}`", select.field);
                    let all = format!("it has {}", known.join(", "));
                    let help = place::instead(&select.field, known, &all);
                    Err(self.fault(expr, message, &help))
                }
            };
        }
        let (operand, kind) = self.member_of(&select.operand, &select.field)?;
        Ok((
            Node::Member(Box::new(operand), select.field.as_str().into()),
            kind,
        ))
    }

    /// The operand of `operand.field`, and the field's type.
    pub(super) fn member_of(&mut self, operand: &IdedExpr, field: &str) -> Checked<Typed> {
        let (node, kind) = self.expression(operand)?;
        match kind {
            Type::Map(_, value) => Ok((node, *value)),
            Type::Dyn => Ok((node, Type::Dyn)),
            other => {
                let message = format!("`.{field}` on a value of type {other}");
                Err(self.fault(operand, message, "only maps have members"))
            }
        }
    }

    fn map<'e>(
        &mut self,
        expr: &IdedExpr,
        entries: impl Iterator<Item = &'e EntryExpr>,
    ) -> Checked<Typed> {
        let mut pairs = Vec::new();
        let mut kinds: Option<(Type, Type)> = None;
        for entry in entries {
            let EntryExpr::MapEntry(entry) = entry else {
                return Err(self.fault(expr, "messages are not supported", "use a map"));
            };
            let (key, key_kind) = self.expression(&entry.key)?;
            let keys = [Type::Text, Type::Int, Type::Uint, Type::Bool];
            if !keys.iter().any(|good| key_kind.may_be(good)) {
                let message = format!("a key of type {key_kind}");
                return Err(self.fault(&entry.key, message, "write a string, a number or a bool"));
            }
            let (value, value_kind) = self.expression(&entry.value)?;
            kinds = Some(match kinds {
                None => (key_kind, value_kind),
                Some((key, value)) => (key.join(key_kind), value.join(value_kind)),
            });
            pairs.push([key, value]);
        }
        let (key, value) = kinds.unwrap_or((Type::Dyn, Type::Dyn));
        Ok((Node::Map(pairs), Type::Map(Box::new(key), Box::new(value))))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Checked<Typed> {
        if call.target.is_none()
            && let Some(typed) = self.operator(expr, call)?
        {
            return Ok(typed);
        }
        match (&call.target, call.func_name.as_str(), call.args.as_slice()) {
            (None, "has", args) => self.has(expr, args),
            (Some(target), "matches", [pattern]) => self.matches(target, pattern),
            (None, "matches", [target, pattern]) => self.matches(target, pattern),
            (Some(target), name, [variable, ..]) if macros::is_macro(name) => {
                self.each(expr, call, [target, variable])
            }
            _ => self.function(expr, call),
        }
    }

    fn operator(&mut self, expr: &IdedExpr, call: &CallExpr) -> Checked<Option<Typed>> {
        let logical = matches!(
            call.func_name.as_str(),
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT
        );
        let typed = match (call.func_name.as_str(), call.args.as_slice()) {
            (name, operands) if logical => {
                let mut nodes = Vec::with_capacity(2);
                for operand in operands {
                    nodes.push(self.boolean(operand)?);
                }
                let node = match (name, <[Node; 2]>::try_from(nodes)) {
                    (operators::LOGICAL_AND, Ok(both)) => Node::And(Box::new(both)),
                    (_, Ok(both)) => Node::Or(Box::new(both)),
                    (_, Err(mut one)) => {
                        let Some(one) = one.pop() else {
                            return Err(self.fault(expr, "nothing to negate", "write a condition"));
                        };
                        Node::Not(Box::new(one))
                    }
                };
                (node, Type::Bool)
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.boolean(condition)?;
                let (yes, kind) = self.expression(yes)?;
                let (no, other) = self.expression(no)?;
                let node = Node::Choose(Box::new([condition, yes, no]));
                (node, kind.join(other))
            }
            (operators::NEGATE, [operand]) => {
                let (node, kind) = self.expression(operand)?;
                if !kind.is_dyn() && !matches!(kind, Type::Int | Type::Double) {
                    let message = format!("`-` on a value of type {kind}");
                    return Err(self.fault(expr, message, "negate an int or a double"));
                }
                (Node::Negate(Box::new(node)), kind)
            }
            (operators::INDEX, [operand, index]) => self.index(operand, index)?,
            (name, [left, right]) => {
                let Some(operator) = binary(name) else {
                    return Ok(None);
                };
                self.binary(expr, operator, [left, right])?
            }
            _ => return Ok(None),
        };
        Ok(Some(typed))
    }

    fn binary(
        &mut self,
        expr: &IdedExpr,
        operator: Operator,
        [left, right]: [&IdedExpr; 2],
    ) -> Checked<Typed> {
        let (left, left_kind) = self.expression(left)?;
        let (right, right_kind) = self.expression(right)?;
        let kind = signature::binary(operator, &left_kind, &right_kind);
        let Some(kind) = kind else {
            let message = format!(
                "`{}` between {left_kind} and {right_kind}",
                signature::symbol(operator)
            );
            let help = signature::advice(operator, &left_kind, &right_kind);
            return Err(self.fault(expr, message, help));
        };
        Ok((Node::Binary(operator, Box::new([left, right])), kind))
    }

    fn index(&mut self, operand: &IdedExpr, index: &IdedExpr) -> Checked<Typed> {
        let (node, kind) = self.expression(operand)?;
        let (at, at_kind) = self.expression(index)?;
        let (wanted, element) = match kind {
            Type::Dyn => (Type::Dyn, Type::Dyn),
            Type::List(element) => (Type::Int, *element),
            Type::Map(key, value) => (*key, *value),
            other => {
                let message = format!("`[…]` on a value of type {other}");
                return Err(self.fault(operand, message, "only lists and maps have elements"));
            }
        };
        let fits = at_kind.may_be(&wanted) || (wanted.is_number() && at_kind.is_number());
        if !fits {
            let message = format!("an index of type {at_kind} instead of {wanted}");
            return Err(self.fault(
                index,
                message,
                "lists are indexed by numbers, args by strings",
            ));
        }
        Ok((Node::Index(Box::new([node, at])), element))
    }

    pub(super) fn boolean(&mut self, expr: &IdedExpr) -> Checked<Node> {
        let (node, kind) = self.expression(expr)?;
        if kind.may_be(&Type::Bool) {
            return Ok(node);
        }
        let message = format!("a value of type {kind} where a condition is needed");
        Err(self.fault(expr, message, "compare it with something"))
    }
}

fn constant(literal: &LiteralValue) -> Typed {
    let (value, kind) = match literal {
        LiteralValue::Null => (Const::Null, Type::Null),
        LiteralValue::Boolean(value) => (Const::Bool(*value.inner()), Type::Bool),
        LiteralValue::Int(value) => (Const::Int(*value.inner()), Type::Int),
        LiteralValue::UInt(value) => (Const::Uint(*value.inner()), Type::Uint),
        LiteralValue::Double(value) => (Const::Double(*value.inner()), Type::Double),
        LiteralValue::String(text) => (Const::Text(text.inner().into()), Type::Text),
        LiteralValue::Bytes(bytes) => (Const::Bytes(bytes.inner().into()), Type::Bytes),
    };
    (Node::Const(value), kind)
}

fn binary(name: &str) -> Option<Operator> {
    Some(match name {
        operators::ADD => Operator::Add,
        operators::SUBSTRACT => Operator::Subtract,
        operators::MULTIPLY => Operator::Multiply,
        operators::DIVIDE => Operator::Divide,
        operators::MODULO => Operator::Remainder,
        operators::EQUALS => Operator::Equal,
        operators::NOT_EQUALS => Operator::NotEqual,
        operators::LESS => Operator::Less,
        operators::LESS_EQUALS => Operator::LessOrEqual,
        operators::GREATER => Operator::Greater,
        operators::GREATER_EQUALS => Operator::GreaterOrEqual,
        operators::IN => Operator::In,
        _ => return None,
    })
}

/// Bytes of an expression.
const MAX_LENGTH: usize = 4096;
/// For a text of that length, some ten kilobytes a level.
const STACK: usize = 128 << 20;
/// Levels of an expression.
const MAX_DEPTH: usize = 100;
