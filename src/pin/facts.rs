//! A definition as a person reads it in the lock file.
//!
//! Owns the lines under `shows`: everything that stands in a definition, most telling first. They
//! are for people and their diffs; what counts is the digest. Invariant: the lines hold the whole
//! definition, or the last one says that they don't.

use super::{
    Digest, Kind, hidden,
    tree::{self, Tree},
};

/// A tool, a prompt, a resource template, or a server's instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Under which it is called; empty for instructions.
    pub name: String,
    /// Of its canonical form.
    pub digest: Digest,
    /// The same for who speaks 2026-07-28 with the server, where that is another.
    pub modern: Option<Digest>,
    /// What stands in it.
    pub shows: Vec<String>,
    /// What in it can't be seen, or can be taken for something else.
    pub hidden: Vec<String>,
}

impl Definition {
    /// Of an item of a list; `None` when it has no name or can't be read.
    #[must_use]
    pub fn of_item(kind: Kind, item: &[u8]) -> Option<Self> {
        let tree = Tree::parse(item)?;
        let name = tree.name(kind.key())?;
        let mut canonical = Vec::with_capacity(item.len());
        tree.write(&mut canonical);
        let mut page = Page::default();
        page.definition(kind, &tree);
        let mut hidden = hidden::in_name(&name);
        hidden.extend(hidden::in_json(&canonical));
        hidden.dedup();
        Some(Self {
            name,
            digest: Digest::of(&canonical),
            modern: None,
            shows: page.finish(),
            hidden,
        })
    }

    /// With what stands under the same name for who speaks 2026-07-28.
    #[must_use]
    pub fn or_modern(mut self, other: Self) -> Self {
        if self.digest != other.digest {
            let lines = super::lock::difference(&self.shows, &other.shows);
            let lines = lines
                .into_iter()
                .map(|line| format!("in 2026-07-28: {line}"));
            self.shows.extend(lines);
            let new = other.hidden.into_iter();
            self.hidden
                .extend(new.map(|what| format!("in 2026-07-28: {what}")));
            self.modern = Some(other.digest);
        }
        self
    }

    /// True when this digest is of what was reviewed.
    #[must_use]
    pub fn is(&self, digest: Digest) -> bool {
        self.digest == digest || self.modern == Some(digest)
    }

    /// Of the raw `instructions` of an `InitializeResult`; `None` when that is no text.
    #[must_use]
    pub fn of_instructions(raw: &[u8]) -> Option<Self> {
        let text = tree::plain_text(raw)?;
        let mut page = Page::default();
        page.text("", &text);
        Some(Self {
            name: String::new(),
            digest: Digest::of(text.as_bytes()),
            modern: None,
            shows: page.finish(),
            hidden: hidden::in_text(&text),
        })
    }
}

/// Lines while they are written.
#[derive(Default)]
struct Page {
    lines: Vec<String>,
    left_out: usize,
}

impl Page {
    fn definition(&mut self, kind: Kind, tree: &Tree<'_>) {
        let Tree::Object(members) = tree else { return };
        if let Some(text) = tree.get("description").and_then(Tree::text) {
            self.text("description", &text);
        }
        let told = |key: &[u8]| {
            let known = [kind.key(), "description"];
            known
                .iter()
                .any(|known| key == format!("\"{known}\"").as_bytes())
                && tree::plain_text(key)
                    .is_some_and(|key| tree.get(&key).and_then(Tree::text).is_some())
        };
        for (key, value) in members.iter().filter(|(key, _)| !told(key)) {
            let name = member_name(key);
            match (name.as_str(), value) {
                ("inputSchema", Tree::Object(schema)) => self.schema(value, schema),
                _ => self.flat(&name, value),
            }
        }
    }

    /// The parameters that a schema has, one line each, then what else it says.
    fn schema(&mut self, tree: &Tree<'_>, members: &[(std::borrow::Cow<'_, [u8]>, Tree<'_>)]) {
        let required = required(tree);
        for (key, value) in members {
            let name = member_name(key);
            let single = tree.get(&name).is_some();
            match (name.as_str(), value) {
                ("properties", Tree::Object(properties)) if single => {
                    for (key, property) in properties {
                        self.parameter(&member_name(key), property, required.as_deref());
                    }
                }
                ("required", _) if single && required.is_some() => {}
                _ => self.flat(&format!("inputSchema.{name}"), value),
            }
        }
        let properties = tree.get("properties");
        for name in required.iter().flatten() {
            if properties.is_none_or(|properties| properties.get(name).is_none()) {
                self.line(format!("required without a definition: {name}"));
            }
        }
    }

    fn parameter(&mut self, name: &str, property: &Tree<'_>, required: Option<&[String]>) {
        let needed = required.is_some_and(|names| names.iter().any(|needed| needed == name));
        let kind = property.get("type").and_then(Tree::text);
        let mut line = format!("parameter {name}");
        let words = [kind.as_deref(), needed.then_some("required")];
        let words: Vec<_> = words.into_iter().flatten().collect();
        if !words.is_empty() {
            line.push_str(&format!(" ({})", words.join(", ")));
        }
        match property.get("description").and_then(Tree::text) {
            Some(text) => self.text(&line, &text),
            None => self.line(line),
        }
        let Tree::Object(members) = property else {
            return self.flat(&format!("parameter {name}"), property);
        };
        for (key, value) in members {
            let key = member_name(key);
            let told = matches!(key.as_str(), "type" | "description")
                && property.get(&key).and_then(Tree::text).is_some();
            if !told {
                self.flat(&format!("parameter {name}.{key}"), value);
            }
        }
    }

    /// One line for each leaf.
    fn flat(&mut self, path: &str, value: &Tree<'_>) {
        match value {
            Tree::Leaf(token) => {
                let text = String::from_utf8_lossy(token);
                self.line(format!("{path}: {text}"));
            }
            Tree::Array(elements) if elements.is_empty() => self.line(format!("{path}: []")),
            Tree::Object(members) if members.is_empty() => self.line(format!("{path}: {{}}")),
            Tree::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.flat(&format!("{path}[{index}]"), element);
                }
            }
            Tree::Object(members) => {
                for (key, value) in members {
                    self.flat(&format!("{path}.{}", member_name(key)), value);
                }
            }
        }
    }

    /// A text, a line of the page for each of its own.
    fn text(&mut self, label: &str, text: &str) {
        for line in text.split('\n') {
            self.line(if label.is_empty() {
                line.to_owned()
            } else {
                format!("{label}: {line}")
            });
        }
    }

    fn line(&mut self, line: String) {
        if self.lines.len() >= MAX_LINES {
            self.left_out += 1;
            return;
        }
        let length = line.chars().count();
        self.lines.push(if length > MAX_LINE {
            let start: String = line.chars().take(MAX_LINE).collect();
            format!("{start}… ({} characters more)", length - MAX_LINE)
        } else {
            line
        });
    }

    fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!("… ({} lines more)", self.left_out));
        }
        self.lines
    }
}

/// The names that a schema requires, where it says so in the usual way.
fn required(schema: &Tree<'_>) -> Option<Vec<String>> {
    match schema.get("required")? {
        Tree::Array(names) => names.iter().map(Tree::text).collect(),
        _ => None,
    }
}

fn member_name(token: &[u8]) -> String {
    tree::plain_text(token).unwrap_or_else(|| String::from_utf8_lossy(token).into_owned())
}

/// A line beyond this is cut, characters.
const MAX_LINE: usize = 2000;
/// A definition with more lines is cut.
const MAX_LINES: usize = 500;

#[cfg(test)]
mod tests {
    use super::Definition;
    use crate::pin::Kind;

    fn shows(item: &str) -> Vec<String> {
        Definition::of_item(Kind::Tool, item.as_bytes())
            .unwrap()
            .shows
    }

    #[test]
    fn everything_in_a_tool_is_shown_most_telling_first() {
        let item = r#"{"name":"read","title":"Read","description":"Reads.\nAll of it.","inputSchema":{"type":"object","properties":{"path":{"type":"string","description":"Where","minLength":1},"raw":{}},"required":["path","gone"],"additionalProperties":false},"annotations":{"readOnlyHint":true}}"#;
        let wanted = [
            "description: Reads.",
            "description: All of it.",
            "annotations.readOnlyHint: true",
            "inputSchema.additionalProperties: false",
            "parameter path (string, required): Where",
            "parameter path.minLength: 1",
            "parameter raw",
            "inputSchema.type: \"object\"",
            "required without a definition: gone",
            "title: \"Read\"",
        ];
        assert_eq!(shows(item), wanted);
    }

    #[test]
    fn a_member_that_stands_twice_is_shown_twice() {
        let lines = shows(r#"{"name":"a","description":"x","description":"y"}"#);
        assert_eq!(lines, ["description: \"x\"", "description: \"y\""]);
        let lines = shows(r#"{"name":"a","inputSchema":{"required":["a"],"required":["b"]}}"#);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn what_is_cut_says_so() {
        let long = format!(r#"{{"name":"a","description":"{}"}}"#, "x".repeat(5000));
        assert!(shows(&long)[0].ends_with("characters more)"));
        let many = format!(r#"{{"name":"a","description":"{}"}}"#, r"x\n".repeat(600));
        assert_eq!(shows(&many).last().unwrap(), "… (101 lines more)");
    }

    #[test]
    fn what_has_no_name_of_its_own_is_no_definition() {
        for item in [
            "{}",
            "[]",
            r#"{"name":1}"#,
            r#"{"name":"a","name":"a"}"#,
            r#"{"name":"\ud800"}"#,
        ] {
            assert!(
                Definition::of_item(Kind::Tool, item.as_bytes()).is_none(),
                "{item}"
            );
        }
    }
}
