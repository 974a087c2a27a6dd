//! The syntax of patterns: that of the `regex` crate, with the meaning of RE2.
//!
//! Invariant: `\d`, `\w`, `\s` and `\b` are about ASCII. CEL asks for that, and automata for all the
//! digits and letters there are would be large.

use regex_syntax::{
    ast::{self, Ast, ClassAsciiKind, ClassPerlKind, ClassSet, ClassSetItem},
    hir::{Class, Hir, HirKind, Look, translate::Translator},
};

use super::PatternError;

/// Reads a pattern.
pub(super) fn parse(text: &str) -> Result<Hir, PatternError> {
    let mut parser = ast::parse::ParserBuilder::new().nest_limit(NEST).build();
    let mut ast = parser
        .parse(text)
        .map_err(|error| fault(error.span(), error.kind()))?;
    plain(&mut ast);
    let hir = Translator::new()
        .translate(text, &ast)
        .map_err(|error| fault(error.span(), error.kind()))?;
    Ok(ascii_boundaries(&hir))
}

fn fault(span: &ast::Span, kind: &impl ToString) -> PatternError {
    PatternError::Syntax {
        range: span.start.offset..span.end.offset,
        message: kind.to_string(),
    }
}

/// Takes `\d` and its kin for their ASCII classes.
fn plain(ast: &mut Ast) {
    match ast {
        Ast::ClassPerl(class) => {
            let item = ClassSetItem::Ascii(ast::ClassAscii {
                span: class.span,
                kind: kind(&class.kind),
                negated: false,
            });
            *ast = Ast::class_bracketed(ast::ClassBracketed {
                span: class.span,
                negated: class.negated,
                kind: ClassSet::Item(item),
            });
        }
        Ast::ClassBracketed(class) => plain_set(&mut class.kind),
        Ast::Repetition(repetition) => plain(&mut repetition.ast),
        Ast::Group(group) => plain(&mut group.ast),
        Ast::Alternation(parts) => parts.asts.iter_mut().for_each(plain),
        Ast::Concat(parts) => parts.asts.iter_mut().for_each(plain),
        _ => {}
    }
}

fn plain_set(set: &mut ClassSet) {
    match set {
        ClassSet::Item(item) => plain_item(item),
        ClassSet::BinaryOp(operation) => {
            plain_set(&mut operation.lhs);
            plain_set(&mut operation.rhs);
        }
    }
}

fn plain_item(item: &mut ClassSetItem) {
    match item {
        ClassSetItem::Perl(class) => {
            *item = ClassSetItem::Ascii(ast::ClassAscii {
                span: class.span,
                kind: kind(&class.kind),
                negated: class.negated,
            });
        }
        ClassSetItem::Bracketed(class) => plain_set(&mut class.kind),
        ClassSetItem::Union(union) => union.items.iter_mut().for_each(plain_item),
        _ => {}
    }
}

fn kind(kind: &ClassPerlKind) -> ClassAsciiKind {
    match kind {
        ClassPerlKind::Digit => ClassAsciiKind::Digit,
        ClassPerlKind::Space => ClassAsciiKind::Space,
        ClassPerlKind::Word => ClassAsciiKind::Word,
    }
}

/// The same expression with word boundaries of ASCII, and without groups: nothing refers to them.
fn ascii_boundaries(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0.clone()),
        HirKind::Class(Class::Unicode(class)) => Hir::class(Class::Unicode(class.clone())),
        HirKind::Class(Class::Bytes(class)) => Hir::class(Class::Bytes(class.clone())),
        HirKind::Look(look) => Hir::look(ascii(*look)),
        HirKind::Repetition(repetition) => {
            Hir::repetition(repetition.with(ascii_boundaries(&repetition.sub)))
        }
        HirKind::Capture(capture) => ascii_boundaries(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(ascii_boundaries).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(ascii_boundaries).collect())
        }
    }
}

fn ascii(look: Look) -> Look {
    match look {
        Look::WordUnicode => Look::WordAscii,
        Look::WordUnicodeNegate => Look::WordAsciiNegate,
        Look::WordStartUnicode => Look::WordStartAscii,
        Look::WordEndUnicode => Look::WordEndAscii,
        Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
        Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
        other => other,
    }
}

/// Nesting of groups and repetitions in a pattern.
const NEST: u32 = 64;
