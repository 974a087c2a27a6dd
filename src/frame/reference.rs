//! What a completion is for.
//!
//! Invariant: all who ask get the same reading, and what a child might read in another way has none.

use super::{Frame, Part};

/// What a `completion/complete` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A prompt, by its name.
    Prompt(String),
    /// A resource or a template of some, by its URI.
    Resource(String),
}

impl Frame {
    /// `params.ref`, read; `None` where it is absent or not clear.
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        // Whatever else stands there a child might read as the name.
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            r#type: String,
            name: Option<String>,
            uri: Option<String>,
            #[serde(rename = "title")]
            _title: Option<serde::de::IgnoredAny>,
        }
        let raw: Raw = serde_json::from_slice(self.raw(Part::Reference)?).ok()?;
        match (raw.r#type.as_str(), raw.name, raw.uri) {
            ("ref/prompt", Some(name), _) => Some(Reference::Prompt(name)),
            ("ref/resource", _, Some(uri)) => Some(Reference::Resource(uri)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Reference};

    fn read(reference: &str) -> Option<Reference> {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{{"ref":{reference}}}}}"#
        );
        Frame::from_client(text.into()).ok()?.reference()
    }

    #[test]
    fn a_reference_names_a_prompt_or_a_resource() {
        let prompt = Some(Reference::Prompt("a".to_owned()));
        assert_eq!(read(r#"{"type":"ref/prompt","name":"a"}"#), prompt);
        assert_eq!(
            read(r#"{"type":"ref/prompt","name":"\u0061","title":5}"#),
            prompt
        );
        let resource = Some(Reference::Resource("a:{b}".to_owned()));
        assert_eq!(read(r#"{"type":"ref/resource","uri":"a:{b}"}"#), resource);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_reference() {
        for unclear in [
            "null",
            "[]",
            r#""a""#,
            "{}",
            r#"{"type":"ref/prompt"}"#,
            r#"{"type":"ref/prompt","uri":"a:b"}"#,
            r#"{"type":"ref/resource","name":"a"}"#,
            r#"{"type":"ref/tool","name":"a"}"#,
            r#"{"type":"Ref/Prompt","name":"a"}"#,
            r#"{"type":"ref/prompt","name":["a"]}"#,
            r#"{"type":"ref/prompt","name":"a","Name":"b"}"#,
            r#"{"type":"ref/prompt","name":"a","nаme":"b"}"#,
            r#"{"type":"ref/prompt","name":"a","name":"b"}"#,
        ] {
            assert_eq!(read(unclear), None, "{unclear}");
        }
    }
}
