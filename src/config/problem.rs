//! What is wrong with a configuration: where it stands, what it is, what to write instead.
//!
//! Owns the diagnostics and how they look. It must never hold an expanded value: sources are shown
//! as they stand in the file, and what looks like a secret there is masked. Invariant: problems are
//! shown in the order of the file, and every one that was found is counted.

use std::{fmt, io::IsTerminal, ops::Range};

use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, but is probably not what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    message: String,
    span: Option<Range<usize>>,
    related: Option<(Range<usize>, String)>,
    help: Option<String>,
    distant: bool,
}

impl Problem {
    /// A reason to refuse the file.
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// Something to tell the operator, no more.
    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            message,
            span: None,
            related: None,
            help: None,
            distant: false,
        }
    }

    /// Marks what follows from other parts of the file than the one it is shown at.
    pub(super) fn distant(mut self) -> Self {
        self.distant = true;
        self
    }

    /// True when the place alone shows that something is wrong.
    pub(super) fn is_local(&self) -> bool {
        !self.distant && self.related.is_none()
    }

    /// Where the offending text begins.
    pub(super) fn start(&self) -> Option<usize> {
        self.span.as_ref().map(|span| span.start)
    }

    /// Byte range of the offending text.
    pub(super) fn at(mut self, span: &Range<usize>) -> Self {
        self.span = Some(span.clone());
        self
    }

    /// Another place that matters, and why.
    pub(super) fn also(mut self, span: &Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some((span.clone(), label.into()));
        self
    }

    /// What to write instead.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, on one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead, where that can be said.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// Everything that was found in one file, with the source to show it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    name: String,
    text: String,
    list: Vec<Problem>,
    files: Vec<std::path::PathBuf>,
}

impl Problems {
    /// Problems in `text`, which is shown under `name` with the byte ranges in `masked` hidden.
    pub(super) fn new(
        name: String,
        text: &str,
        masked: &[Range<usize>],
        mut list: Vec<Problem>,
    ) -> Self {
        list.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        list.dedup();
        Self {
            name,
            text: mask(text, masked),
            list,
            files: Vec::new(),
        }
    }

    /// The same, of a text that names these files.
    pub(super) fn naming(self, files: Vec<std::path::PathBuf>) -> Self {
        Self { files, ..self }
    }

    /// The files that the text names: whether it is good may turn with one of them.
    #[must_use]
    pub fn files(&self) -> &[std::path::PathBuf] {
        &self.files
    }

    /// One problem with the file as a whole.
    pub(super) fn whole(name: String, problem: Problem) -> Self {
        Self::new(name, "", &[], vec![problem])
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// True when nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many are reasons to refuse the file.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many are not.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.iter().filter(|p| p.severity == severity).count()
    }

    /// Where a problem stands: `file:line:column`, or the file alone. Lines and columns count from
    /// one, columns in characters.
    #[must_use]
    pub fn location(&self, problem: &Problem) -> String {
        let Some(span) = &problem.span else {
            return self.name.clone();
        };
        let before = &self.text[..floor(&self.text, span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    /// All problems, each with its place underlined, and a last line that counts them.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for problem in self.list.iter().take(SHOWN) {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        if self.list.len() > SHOWN {
            let more = self.list.len() - SHOWN;
            out.push_str(&format!("... and {more} more\n\n"));
        }
        out.push_str(&self.tally());
        out.push('\n');
        out
    }

    /// As [`Problems::render`], in colour when standard error is a terminal and `NO_COLOR` is unset.
    #[must_use]
    pub fn for_stderr(&self) -> String {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        self.render(!plain && std::io::stderr().is_terminal())
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&problem.message);
        let group = match &problem.span {
            Some(span) => title.element(self.snippet(span, problem.related.as_ref())),
            None => title.element(Origin::path(&self.name)),
        };
        match &problem.help {
            Some(help) => group.element(Level::HELP.message(normalize_untrusted_str(help))),
            None => group,
        }
    }

    /// Only the lines that are needed, so that the cost doesn't grow with the file.
    fn snippet<'a>(
        &'a self,
        span: &Range<usize>,
        related: Option<&'a (Range<usize>, String)>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let span = clamp(&self.text, span);
        let (mut low, mut high) = (span.start, span.end);
        if let Some((other, _)) = related {
            let other = clamp(&self.text, other);
            low = low.min(other.start);
            high = high.max(other.end);
        }
        let start = self.text[..low].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[high..]
            .find('\n')
            .map_or(self.text.len(), |at| high + at);
        let line = self.text[..start].matches('\n').count() + 1;
        let inside = |range: Range<usize>| range.start - start..range.end - start;
        let mut snippet = Snippet::source(&self.text[start..end])
            .path(&self.name)
            .line_start(line)
            .annotation(AnnotationKind::Primary.span(inside(span)));
        if let Some((other, label)) = related {
            let other = inside(clamp(&self.text, other));
            snippet = snippet.annotation(AnnotationKind::Context.span(other).label(label));
        }
        snippet
    }

    fn tally(&self) -> String {
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            n => format!("{n} {word}s"),
        };
        let errors = plural(self.errors(), "error");
        let warnings = plural(self.warnings(), "warning");
        match (self.errors(), self.warnings()) {
            (_, 0) => format!("{}: {errors}", self.name),
            (0, _) => format!("{}: {warnings}", self.name),
            _ => format!("{}: {errors}, {warnings}", self.name),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// Replaces what stands in the ranges by asterisks, byte for byte, so that spans stay true.
fn mask(text: &str, ranges: &[Range<usize>]) -> String {
    let mut hidden = vec![false; text.len()];
    for range in ranges {
        let range = clamp(text, range);
        hidden[range].fill(true);
    }
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if hidden[at] && !c.is_control() {
            out.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    start..floor(text, span.end).max(start)
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// More than this nobody reads; the rest is counted.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, list: Vec<Problem>) -> Problems {
        Problems::new("proxy.toml".to_owned(), text, &[], list)
    }

    #[test]
    fn each_problem_shows_its_place_its_text_and_what_to_write() {
        let text = "# x\nlisten = \"here\"\n";
        let shown = problems(
            text,
            vec![
                Problem::error("not an address")
                    .at(&(13..19))
                    .help("write this"),
            ],
        )
        .render(false);
        assert!(shown.contains("error: not an address"), "{shown}");
        assert!(shown.contains("proxy.toml:2:10"), "{shown}");
        assert!(shown.contains("^^^^^^"), "{shown}");
        assert!(shown.contains("help: write this"), "{shown}");
        assert!(shown.ends_with("proxy.toml: 1 error\n"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn masked_text_is_not_shown_and_keeps_columns() {
        let text = "a = \"sécret\" # b\n";
        let problem = Problem::error("no").at(&(14..16));
        let all = Problems::new("f".to_owned(), text, &[5..8, 8..12], vec![problem]);
        let shown = all.render(false);
        assert!(!shown.contains("cret"), "{shown}");
        assert!(shown.contains("\"*******\""), "{shown}");
    }

    #[test]
    fn odd_spans_do_no_harm() {
        for text in ["", "é", "a\n", "\r\n\r\n", "é\n"] {
            for start in 0..6 {
                let problem = Problem::warning("x")
                    .at(&(start..start + 2))
                    .also(&(0..1), "y");
                let all = problems(text, vec![problem]);
                assert!(all.render(true).contains('x'));
                assert!(all.to_string().contains("1 warning"));
            }
        }
    }
}
