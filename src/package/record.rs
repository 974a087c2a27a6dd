//! The record of one installation.
//!
//! It stands beside the folders of a backend's installations and names the one that is in use, so
//! that replacing this one file is the whole switch from an old installation to a new one.

use serde::{Deserialize, Serialize};

use super::is_file_name;

/// What was installed for a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of the form of this file.
    pub version: u32,
    /// [`Spec::digest`](super::Spec::digest) of what was asked for.
    pub spec: String,
    /// The folder beside this file.
    pub folder: String,
    /// The program, from that folder on.
    pub program: String,
    /// Name, version and integrity of each package, the one that was asked for first.
    pub packages: Vec<String>,
    /// Of all files.
    pub digest: String,
    /// Whether packages could run scripts of theirs.
    pub scripts: bool,
    /// The configuration that it was installed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// The form of the file.
pub(super) const VERSION: u32 = 1;

impl Record {
    /// A record in the form of this version.
    #[must_use]
    pub fn new(spec: String, folder: String, program: String) -> Self {
        Self {
            version: VERSION,
            spec,
            folder,
            program,
            packages: Vec::new(),
            digest: String::new(),
            scripts: false,
            config: None,
        }
    }

    /// Reads one; `None` for what isn't, or names what is outside its folder.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(text).ok()?;
        let mut parts = record.program.split('/');
        let inside = parts.all(|part| is_file_name(part) || part == ".bin");
        (record.version == VERSION && is_file_name(&record.folder) && inside).then_some(record)
    }

    /// As it is written.
    #[must_use]
    pub fn text(&self) -> String {
        // It has no map whose keys could fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The package and its version, and how many came with it.
    #[must_use]
    pub fn summary(&self) -> String {
        let first = self.packages.first().map_or("", String::as_str);
        let main: Vec<_> = first.split(' ').take(2).collect();
        match self.packages.len().saturating_sub(1) {
            0 => main.join(" "),
            others => format!("{} and {others} more", main.join(" ")),
        }
    }
}
