//! What a client of a revision without sessions declares that it can be asked.
//!
//! Owns the few capabilities that decide which instance may serve a request. Invariant: there are
//! few values, so that no client can make up ever new ones and have a child started for each.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Kinds of input that a child may ask for. Cheap to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// `sampling`.
    pub sampling: bool,
    /// `sampling.tools`.
    pub sampling_tools: bool,
    /// `sampling.context`.
    pub sampling_context: bool,
    /// `elicitation`, filled in as a form.
    pub form: bool,
    /// `elicitation.url`.
    pub url: bool,
    /// `roots`.
    pub roots: bool,
}

impl Capabilities {
    /// Reads a raw `ClientCapabilities`; `None` when it is no object.
    #[must_use]
    pub fn read(raw: &[u8]) -> Option<Self> {
        if raw == b"{}" {
            return Some(Self::default());
        }
        #[derive(Deserialize)]
        struct Declared<'a> {
            #[serde(borrow)]
            sampling: Option<&'a RawValue>,
            #[serde(borrow)]
            elicitation: Option<&'a RawValue>,
            #[serde(borrow)]
            roots: Option<&'a RawValue>,
        }
        #[derive(Deserialize, Default)]
        struct Parts<'a> {
            #[serde(borrow)]
            tools: Option<&'a RawValue>,
            #[serde(borrow)]
            context: Option<&'a RawValue>,
            #[serde(borrow)]
            form: Option<&'a RawValue>,
            #[serde(borrow)]
            url: Option<&'a RawValue>,
        }
        fn parts(raw: Option<&RawValue>) -> Option<Parts<'_>> {
            serde_json::from_str(raw?.get()).ok()
        }
        let declared: Declared<'_> = serde_json::from_slice(raw).ok()?;
        let sampling = parts(declared.sampling);
        let elicitation = parts(declared.elicitation);
        let url = elicitation.as_ref().is_some_and(|e| e.url.is_some());
        Some(Self {
            sampling: sampling.is_some(),
            sampling_tools: sampling.as_ref().is_some_and(|s| s.tools.is_some()),
            sampling_context: sampling.as_ref().is_some_and(|s| s.context.is_some()),
            // `{}` means forms only.
            form: elicitation.is_some_and(|e| e.form.is_some() || !url),
            url,
            roots: declared.roots.is_some_and(|raw| raw.get().starts_with('{')),
        })
    }

    /// True when a child may ask for anything at all.
    #[must_use]
    pub fn any(self) -> bool {
        self.sampling || self.form || self.url || self.roots
    }

    /// The `capabilities` of an `initialize`.
    #[must_use]
    pub fn initialize(self) -> String {
        let mut members = Vec::new();
        if self.sampling {
            let parts = [
                ("tools", self.sampling_tools),
                ("context", self.sampling_context),
            ];
            members.push(format!("\"sampling\":{}", object(&parts)));
        }
        if self.form || self.url {
            let parts = [("form", self.form), ("url", self.url)];
            members.push(format!("\"elicitation\":{}", object(&parts)));
        }
        if self.roots {
            members.push("\"roots\":{}".to_owned());
        }
        format!("{{{}}}", members.join(","))
    }

    /// What a child's request needs, as `requiredCapabilities`; `None` where it is no such request.
    #[must_use]
    pub fn needed(method: &str, by_url: bool) -> Option<&'static str> {
        Some(match (method, by_url) {
            ("sampling/createMessage", _) => r#"{"sampling":{}}"#,
            ("elicitation/create", true) => r#"{"elicitation":{"url":{}}}"#,
            ("elicitation/create", false) => r#"{"elicitation":{"form":{}}}"#,
            ("roots/list", _) => r#"{"roots":{}}"#,
            _ => return None,
        })
    }

    /// True when a child's request may be put to a client that declared these.
    #[must_use]
    pub fn allow(self, method: &str, by_url: bool) -> bool {
        match method {
            "sampling/createMessage" => self.sampling,
            "elicitation/create" if by_url => self.url,
            "elicitation/create" => self.form,
            "roots/list" => self.roots,
            _ => false,
        }
    }
}

fn object(parts: &[(&str, bool)]) -> String {
    let there: Vec<String> = parts
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| format!("\"{name}\":{{}}"))
        .collect();
    format!("{{{}}}", there.join(","))
}

#[cfg(test)]
mod tests {
    use super::Capabilities;

    #[test]
    fn what_is_declared_is_what_a_child_is_told() {
        for (declared, told) in [
            ("{}", "{}"),
            (r#"{"extensions":{"x":{}},"experimental":{}}"#, "{}"),
            (r#"{"elicitation":{}}"#, r#"{"elicitation":{"form":{}}}"#),
            (
                r#"{"elicitation":{"url":{}}}"#,
                r#"{"elicitation":{"url":{}}}"#,
            ),
            (
                r#"{"roots":{"listChanged":true},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}}}"#,
                r#"{"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}},"roots":{}}"#,
            ),
            (r#"{"sampling":null,"roots":true,"elicitation":[]}"#, "{}"),
        ] {
            let read = Capabilities::read(declared.as_bytes()).unwrap();
            assert_eq!(read.initialize(), told, "{declared}");
        }
        for none in ["[]", "null", "1", "\"\""] {
            assert_eq!(Capabilities::read(none.as_bytes()), None, "{none}");
        }
    }
}
