//! What looks like a function and is none: `has`, `matches`, and the macros that go through a list.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

use super::{
    check::{Check, Checked, Typed},
    facts,
    node::{Const, Each, Macro, Node},
    types::Type,
};
use crate::policy::pattern::{Pattern, PatternError, Purpose};

impl Check<'_> {
    pub(super) fn has(&mut self, expr: &IdedExpr, args: &[IdedExpr]) -> Checked<Typed> {
        let help = "write has(args.name)";
        let [argument] = args else {
            return Err(self.fault(expr, "`has` takes one argument", help));
        };
        let Expr::Select(select) = &argument.expr else {
            return Err(self.fault(argument, "`has` asks for a member of a map", help));
        };
        if let Expr::Ident(name) = &select.operand.expr
            && facts::members(name).is_some()
            && !self.locals.iter().any(|(local, _)| local == name)
        {
            self.select(argument, select)?;
            return Ok((Node::Const(Const::Bool(true)), Type::Bool));
        }
        let (operand, _) = self.member_of(&select.operand, &select.field)?;
        let node = Node::Has(Box::new(operand), select.field.as_str().into());
        Ok((node, Type::Bool))
    }

    pub(super) fn matches(&mut self, target: &IdedExpr, pattern: &IdedExpr) -> Checked<Typed> {
        let (node, kind) = self.expression(target)?;
        if !kind.may_be(&Type::Text) {
            let message = format!("`matches` on a value of type {kind}");
            return Err(self.fault(target, message, "use it on a string"));
        }
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            let message = "the pattern of `matches` must be written out";
            return Err(self.fault(pattern, message, "write it in quotes"));
        };
        let pattern = Pattern::new(text.inner(), Purpose::Test).map_err(|error| {
            let message = match error {
                PatternError::Syntax { message, .. } => {
                    format!("not a regular expression: {message}")
                }
                other => format!("this regular expression is {other}"),
            };
            self.fault(pattern, message, "see https://docs.rs/regex/#syntax")
        })?;
        Ok((Node::Matches(Box::new(node), Box::new(pattern)), Type::Bool))
    }

    pub(super) fn each(
        &mut self,
        expr: &IdedExpr,
        call: &CallExpr,
        [target, variable]: [&IdedExpr; 2],
    ) -> Checked<Typed> {
        let name = call.func_name.as_str();
        let (filter, body) = match (name, &call.args[1..]) {
            ("map", [filter, body]) => (Some(filter), body),
            (_, [body]) => (None, body),
            _ => {
                let help = format!("write list.{name}(x, …)");
                return Err(self.fault(expr, format!("wrong arguments for `{name}`"), &help));
            }
        };
        let Expr::Ident(local) = &variable.expr else {
            let help = format!("write list.{name}(x, …)");
            return Err(self.fault(variable, "not a name for a variable", &help));
        };
        let (range, kind) = self.expression(target)?;
        let Some(element) = kind.element() else {
            let message = format!("`{name}` on a value of type {kind}");
            return Err(self.fault(target, message, "only lists and maps have elements"));
        };
        self.locals.push((local.clone(), element.clone()));
        let filter = filter.map(|filter| self.boolean(filter)).transpose()?;
        let (kind, body, outcome) = match name {
            "map" => {
                let (body, made) = self.expression(body)?;
                (Macro::Map, body, Type::List(Box::new(made)))
            }
            "filter" => (
                Macro::Filter,
                self.boolean(body)?,
                Type::List(Box::new(element)),
            ),
            "all" => (Macro::All, self.boolean(body)?, Type::Bool),
            "exists" => (Macro::Exists, self.boolean(body)?, Type::Bool),
            _ => (Macro::ExistsOne, self.boolean(body)?, Type::Bool),
        };
        self.locals.pop();
        let each = Each {
            range,
            filter,
            body,
        };
        Ok((Node::Each(kind, Box::new(each)), outcome))
    }
}

/// True for macros that go through a list.
pub(super) fn is_macro(name: &str) -> bool {
    matches!(
        name,
        "all" | "exists" | "exists_one" | "existsOne" | "filter" | "map"
    )
}
