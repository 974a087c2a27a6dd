//! Where in an expression a fault is.

use std::ops::Range;

use cel::common::ast::{CallExpr, Expr, IdedExpr};

use super::{Fault, check::Check};

impl Check<'_> {
    /// A fault at an expression.
    pub(super) fn fault(&self, expr: &IdedExpr, message: impl Into<String>, help: &str) -> Fault {
        let mut place = None;
        self.cover(expr, &mut place);
        let chars = place.unwrap_or(0..0);
        let byte = |at: usize| {
            let found = self.text.char_indices().nth(at);
            found.map_or(self.text.len(), |(byte, _)| byte)
        };
        let range = byte(chars.start)..byte(chars.end);
        let literal = matches!(expr.expr, Expr::Literal(_));
        Fault {
            range: if literal { range } else { self.closed(range) },
            message: message.into(),
            help: Some(help.to_owned()),
        }
    }

    /// With the brackets that close what it opens, which are nobody's tokens.
    fn closed(&self, mut range: Range<usize>) -> Range<usize> {
        for (open, close) in [('(', ')'), ('[', ']')] {
            let shown = &self.text[range.clone()];
            let unclosed = shown.matches(open).count() > shown.matches(close).count();
            if unclosed && self.text[range.end..].starts_with(close) {
                range.end += 1;
            }
        }
        range
    }

    /// Widens `place`, in characters, to the tokens of an expression.
    fn cover(&self, expr: &IdedExpr, place: &mut Option<Range<usize>>) {
        if let Some((start, stop)) = self.places.offset_for(expr.id) {
            let token = token(&expr.expr, start as usize..stop as usize + 1);
            *place = Some(match place.take() {
                Some(known) => known.start.min(token.start)..known.end.max(token.end),
                None => token,
            });
        }
        let inner: Vec<&IdedExpr> = match &expr.expr {
            Expr::Select(select) => vec![&select.operand],
            Expr::Call(call) => call
                .target
                .as_deref()
                .into_iter()
                .chain(&call.args)
                .collect(),
            Expr::List(list) => list.elements.iter().collect(),
            _ => Vec::new(),
        };
        for part in inner {
            self.cover(part, place);
        }
    }
}

/// The characters of an expression's own token: the parser knows a call by its bracket and a member
/// by its dot.
fn token(expr: &Expr, mut place: Range<usize>) -> Range<usize> {
    match expr {
        Expr::Call(CallExpr {
            target: None,
            func_name,
            ..
        }) if func_name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            place.start = place.start.saturating_sub(func_name.len());
        }
        Expr::Struct(message) => {
            place.start = place.start.saturating_sub(message.type_name.len());
        }
        Expr::Select(select) => place.end += select.field.chars().count(),
        _ => {}
    }
    place
}

/// What to write instead of a name that isn't known: the one it was probably meant to be, or else
/// what there is.
pub(super) fn instead<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    let near = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => otherwise.to_owned(),
    }
}

/// A fault of the whole.
pub(super) fn whole(text: &str, message: &str, help: &str) -> Fault {
    Fault {
        range: 0..text.len(),
        message: message.to_owned(),
        help: Some(help.to_owned()),
    }
}

/// What the parser says, shortened to what helps.
pub(super) fn syntax(text: &str, position: (isize, isize), message: &str) -> Fault {
    let start = offset(text, position);
    let next = text[start..].chars().next().map_or(0, char::len_utf8);
    let message = message.trim_start_matches("Syntax error: ");
    let message = message.split(" expecting {").next().unwrap_or_default();
    let message = if message.contains("'<EOF>'") {
        "it ends too early".to_owned()
    } else {
        message.replace('\n', " ")
    };
    Fault {
        range: start..start + next,
        message: format!("not an expression: {message}"),
        help: Some("conditions are written in CEL: https://cel.dev".to_owned()),
    }
}

/// The byte at a line and column, both from 1 and the column in characters.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let lines = usize::try_from(line - 1).unwrap_or(0);
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let column = usize::try_from(column - 1).unwrap_or(0);
    let rest = &text[start..];
    start
        + rest
            .char_indices()
            .nth(column)
            .map_or(rest.len(), |(at, _)| at)
}
