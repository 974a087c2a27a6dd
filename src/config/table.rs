//! A strict reader of one TOML table: what is not asked for is a problem.
//!
//! Owns types, spans and bounds of single values, and the search for what an unknown key was meant
//! to be. It must never know what a key is for. Invariant: after [`Table::finish`] each key of the
//! file was either read or reported.

use std::{ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    context::{Context, Span},
    expand::{Text, expand},
    known,
    problem::Problem,
    value::{self, Refusal},
};

/// A value and where it stands.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// One table while it is read.
pub(super) struct Table<'a> {
    pub(super) cx: &'a Context<'a>,
    entries: &'a DeTable<'a>,
    /// Where a problem with the table as a whole is shown: its header or its key.
    pub(super) span: Span,
    /// The table's name in messages, `backends.git`.
    pub(super) path: String,
    /// The same with names of the user's replaced, `backends.*`.
    schema: String,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn root(cx: &'a Context<'a>, entries: &'a DeTable<'a>) -> Self {
        Self {
            cx,
            entries,
            span: 0..0,
            path: String::new(),
            schema: String::new(),
            asked: Vec::new(),
        }
    }

    /// `path.key` as it is written in messages.
    pub(super) fn name(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// True when the file has the key, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// In how many ways `[auth]` lets somebody be known.
    pub(super) fn ways_to_authenticate(&self) -> usize {
        let auth = self.entries.get("auth");
        let auth = auth.and_then(|auth| auth.get_ref().as_table());
        let ways = ["keys", "jwt", "mtls", "anonymous"];
        let present = |way| auth.is_some_and(|auth| auth.contains_key(way));
        ways.into_iter().filter(|way| present(*way)).count()
    }

    /// Where a key stands, or else the table.
    pub(super) fn place(&self, key: &str) -> Span {
        self.entries
            .get_key_value(key)
            .map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// The value of a key; from now on the key is known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Node<'a>> {
        self.asked.push(key);
        self.entries.get(key)
    }

    /// Says that a required key is missing.
    pub(super) fn missing(&self, key: &str, help: &str) {
        self.cx.report(
            Problem::error(format!("`{}` is missing", self.name(key)))
                .at(&self.span)
                .help(help)
                .distant(),
        );
    }

    pub(super) fn wrong_type(&self, key: &str, node: &Node<'_>, wanted: &str, help: &str) {
        wrong_type(self.cx, &self.name(key), node, wanted, help);
    }

    /// Says that a value was refused.
    pub(super) fn refused(&self, key: &str, span: &Span, refusal: Refusal) {
        let message = format!("`{}` is {}", self.name(key), refusal.message);
        self.cx
            .report(Problem::error(message).at(span).help(refusal.help));
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(node) => match node.get_ref() {
                DeValue::Boolean(flag) => *flag,
                _ => {
                    self.wrong_type(key, node, "true or false", "write it without quotes");
                    default
                }
            },
        }
    }

    /// True when a flag of this name is there but is neither true nor false.
    pub(super) fn is_broken_flag(&self, key: &str) -> bool {
        self.entries
            .get(key)
            .is_some_and(|node| !node.get_ref().is_bool())
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<Text> {
        let node = self.take(key)?;
        string(self.cx, &self.name(key), node)
    }

    /// A string in a notation of its own.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let text = self.string(key)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refused(key, &text.span, refusal);
                None
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<Text>> {
        let node = self.take(key)?;
        strings(self.cx, &self.name(key), node)
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(node) = self.take(key) else {
            return default;
        };
        let help = "write a number with a unit, in quotes, such as \"30s\" or \"5m\"";
        if !node.get_ref().is_str() {
            self.wrong_type(key, node, "a duration", help);
            return default;
        }
        let Some(duration) = self.parsed(key, value::duration) else {
            return default;
        };
        if bounds.contains(&duration) {
            return duration;
        }
        let low = value::show_duration(*bounds.start());
        let high = value::show_duration(*bounds.end());
        self.out_of_bounds(key, node, &format!("\"{low}\""), &format!("\"{high}\""));
        default
    }

    /// Bytes: a string with a unit, or a plain number.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: usize,
        bounds: RangeInclusive<usize>,
    ) -> usize {
        let Some(node) = self.take(key) else {
            return default;
        };
        let bytes = match node.get_ref() {
            DeValue::Integer(integer) => integer.to_string().parse().ok(),
            DeValue::String(_) => match self.parsed(key, value::size) {
                Some(bytes) => usize::try_from(bytes).ok(),
                None => return default,
            },
            _ => {
                self.wrong_type(key, node, "a size", "write one such as \"4MiB\"");
                return default;
            }
        };
        match bytes {
            Some(bytes) if bounds.contains(&bytes) => bytes,
            _ => {
                let low = value::show_size(*bounds.start() as u64);
                let high = value::show_size(*bounds.end() as u64);
                self.out_of_bounds(key, node, &format!("\"{low}\""), &format!("\"{high}\""));
                default
            }
        }
    }

    /// A whole number.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        default: u32,
        bounds: RangeInclusive<u32>,
    ) -> u32 {
        let Some(node) = self.take(key) else {
            return default;
        };
        let DeValue::Integer(integer) = node.get_ref() else {
            self.wrong_type(key, node, "a whole number", "write it without quotes");
            return default;
        };
        match integer_value(integer) {
            Some(count) if bounds.contains(&count) => count,
            _ => {
                let (low, high) = (bounds.start().to_string(), bounds.end().to_string());
                self.out_of_bounds(key, node, &low, &high);
                default
            }
        }
    }

    fn out_of_bounds(&self, key: &str, node: &Node<'_>, low: &str, high: &str) {
        self.cx.report(
            Problem::error(format!("`{}` is out of bounds", self.name(key)))
                .at(&node.span())
                .help(format!("write a value from {low} to {high}")),
        );
    }

    /// A table below this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let node = self.take(key)?;
        self.below(key, key, node)
    }

    /// The tables of `[[path.key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let header = format!("write `[[{}]]` above each block", self.name(key));
        let DeValue::Array(array) = node.get_ref() else {
            self.wrong_type(key, node, "a list of tables", &header);
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|node| {
                let table = self.below(key, key, node)?;
                Some(Table {
                    span: node.span(),
                    ..table
                })
            })
            .collect()
    }

    /// The tables of a table whose keys are names of the user's, in the order of the file.
    pub(super) fn named(&mut self) -> Vec<(Spanned<String>, Table<'a>)> {
        self.members()
            .into_iter()
            .filter_map(|(name, node)| {
                let table = self.below(name.get_ref(), "*", node)?;
                Some((name, table))
            })
            .collect()
    }

    /// Keys and values of a table whose keys are names of the user's, in the order of the file.
    pub(super) fn members(&self) -> Vec<(Spanned<String>, &'a Node<'a>)> {
        let mut members: Vec<_> = self
            .entries
            .iter()
            .map(|(key, node)| (Spanned::new(key.span(), key.get_ref().to_string()), node))
            .collect();
        members.sort_by_key(|(key, _)| key.span().start);
        members
    }

    fn below(&self, key: &str, schema: &str, node: &'a Node<'a>) -> Option<Table<'a>> {
        let Some(entries) = node.get_ref().as_table() else {
            let help = format!("write `[{}]` or `{key} = {{ … }}`", self.name(key));
            self.wrong_type(key, node, "a table", &help);
            return None;
        };
        Some(Table {
            cx: self.cx,
            entries,
            span: self.place(key),
            path: self.name(key),
            schema: join(&self.schema, schema),
            asked: Vec::new(),
        })
    }

    /// Reports each key that nothing asked for.
    pub(super) fn finish(self) {
        for (key, node) in self.members() {
            if !self.asked.contains(&key.get_ref().as_str()) {
                if node.get_ref().is_str() && known::speaks_of_secret(key.get_ref()) {
                    self.cx.mask(node.span());
                }
                self.unknown(&key);
            }
        }
    }

    fn unknown(&self, key: &Spanned<String>) {
        let name = self.name(key.get_ref());
        let problem = match known::judge(&self.schema, key.get_ref(), &self.asked) {
            known::Verdict::Unavailable => {
                Problem::error(format!("`{name}` is not available in this version"))
                    .help("remove it: this version can't honour it")
            }
            known::Verdict::Unknown(help) => {
                Problem::error(format!("unknown key `{name}`")).help(help)
            }
        };
        self.cx.report(problem.at(&key.span()));
    }
}

/// The string in a node, expanded.
pub(super) fn string(cx: &Context<'_>, name: &str, node: &Node<'_>) -> Option<Text> {
    match node.get_ref() {
        DeValue::String(raw) => expand(cx, raw, &node.span()),
        other => {
            let help = match other {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                    let source = cx.text.get(node.span()).unwrap_or_default();
                    format!("write it in quotes: \"{source}\"")
                }
                _ => "write it in quotes".to_owned(),
            };
            wrong_type(cx, name, node, "a string", &help);
            None
        }
    }
}

/// The strings in a node; `None` when any of them is not one.
pub(super) fn strings(cx: &Context<'_>, name: &str, node: &Node<'_>) -> Option<Vec<Text>> {
    let DeValue::Array(array) = node.get_ref() else {
        let help = match node.get_ref() {
            DeValue::String(_) => {
                let source = cx.text.get(node.span()).unwrap_or_default();
                format!("write it in brackets: [{source}]")
            }
            _ => "write strings in brackets, such as [\"a\", \"b\"]".to_owned(),
        };
        wrong_type(cx, name, node, "a list of strings", &help);
        return None;
    };
    let texts: Vec<_> = array.iter().map(|node| string(cx, name, node)).collect();
    texts.into_iter().collect()
}

fn wrong_type(cx: &Context<'_>, name: &str, node: &Node<'_>, wanted: &str, help: &str) {
    let found = match node.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    cx.report(
        Problem::error(format!("`{name}` must be {wanted}, not {found}"))
            .at(&node.span())
            .help(help),
    );
}

fn integer_value(integer: &toml::de::DeInteger<'_>) -> Option<u32> {
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn join(path: &str, key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'*';
    let key = if !key.is_empty() && key.bytes().all(plain) {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
