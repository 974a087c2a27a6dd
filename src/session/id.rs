//! Session ids: 128 random bits, a secret of the client's.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// A session's id; its text is 22 characters of the URL-safe alphabet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one from the system's random source.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads what [`SessionId::text`] wrote; nothing else is one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        if text.len() != TEXT_LENGTH {
            return None;
        }
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == bytes.len()).then_some(Self(bytes))
    }

    /// Its text, for the client alone.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What may be shown of it: 128 bits of its SHA-256, hex.
    #[must_use]
    pub fn digest(&self) -> String {
        let digest = Sha256::digest(self.text());
        digest[..16].iter().fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId([secret])")
    }
}

/// Characters of an id.
pub(crate) const TEXT_LENGTH: usize = 22;

#[cfg(test)]
mod tests {
    use super::SessionId;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = SessionId::random().unwrap();
        let text = id.text();
        assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
        assert!(SessionId::parse(&text.as_bytes()[..21]).is_none());
        assert!(SessionId::parse(format!("{text}A").as_bytes()).is_none());
        assert!(SessionId::parse(b"!!!!!!!!!!!!!!!!!!!!!!").is_none());
    }
}
