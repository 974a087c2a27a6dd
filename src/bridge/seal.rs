//! Text that a client keeps for the gateway and cannot read, change or use elsewhere.
//!
//! Owns the key, which is random and ends with the process. Invariant: what opens is what was
//! sealed, for the same principal, backend and request.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use sha2::{Digest as _, Sha256};

use crate::{frame::Frame, principal::Principal};

/// The key of this process.
pub(crate) struct Seal {
    key: Option<LessSafeKey>,
    /// Each nonce is used once.
    next: AtomicU64,
}

/// What a sealed text is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bond([u8; 32]);

impl Bond {
    /// A request of a principal on a backend: its method, and what it is about.
    pub(crate) fn of(principal: &Principal, backend: &str, frame: &Frame) -> Self {
        let name = frame.name();
        let uri = frame.uri();
        let parts: [&[u8]; 9] = [
            principal.method().as_str().as_bytes(),
            principal.issuer().as_bytes(),
            principal.subject().as_bytes(),
            principal.client().unwrap_or_default().as_bytes(),
            backend.as_bytes(),
            frame.method().as_bytes(),
            name.as_deref().unwrap_or_default().as_bytes(),
            uri.as_deref().unwrap_or_default().as_bytes(),
            frame.arguments().unwrap_or_default(),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl Seal {
    /// A new key.
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 32];
        let key = SystemRandom::new()
            .fill(&mut bytes)
            .and_then(|()| UnboundKey::new(&CHACHA20_POLY1305, &bytes));
        Self {
            key: key.ok().map(LessSafeKey::new),
            next: AtomicU64::new(0),
        }
    }

    /// Seals a text; `None` without a key, when there was no randomness.
    pub(crate) fn seal(&self, plain: &[u8], bond: &Bond) -> Option<String> {
        let key = self.key.as_ref()?;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let mut sealed = plain.to_vec();
        let bound = Aad::from(bond.0);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed)
            .ok()?;
        let mut text = nonce[..8].to_vec();
        text.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(text))
    }

    /// Opens what was sealed with the same bond.
    pub(crate) fn open(&self, text: &str, bond: &Bond) -> Option<Vec<u8>> {
        let key = self.key.as_ref()?;
        let mut sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(sealed.get(..8)?);
        let bound = Aad::from(bond.0);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = key.open_in_place(nonce, bound, &mut sealed[8..]).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::{Bond, Seal};
    use crate::{
        frame::{self, Frame},
        principal::{Method, Principal},
    };

    fn bond(principal: &str, backend: &str, method: &str, params: &str) -> Bond {
        let principal = Principal::new(Method::Key, principal, Vec::new(), None);
        let frame = frame::request(b"1", method, Some(params.as_bytes()));
        Bond::of(&principal, backend, &Frame::from_client(frame).unwrap())
    }

    #[test]
    fn only_the_same_request_of_the_same_principal_opens_it() {
        let seal = Seal::new();
        let params = r#"{"name":"a","arguments":{"x":1}}"#;
        let own = bond("alice", "m", "tools/call", params);
        let text = seal.seal(b"state", &own).unwrap();
        assert_eq!(seal.open(&text, &own).unwrap(), b"state");
        let with_state =
            r#"{"requestState":"x","name":"a","inputResponses":{},"arguments":{"x":1}}"#;
        assert_eq!(own, bond("alice", "m", "tools/call", with_state));
        for other in [
            bond("bob", "m", "tools/call", params),
            bond("alice", "n", "tools/call", params),
            bond("alice", "m", "prompts/get", params),
            bond(
                "alice",
                "m",
                "tools/call",
                r#"{"name":"b","arguments":{"x":1}}"#,
            ),
            bond(
                "alice",
                "m",
                "tools/call",
                r#"{"name":"a","arguments":{"x":2}}"#,
            ),
            bond("alice", "m", "tools/call", r#"{"name":"a"}"#),
        ] {
            assert_eq!(seal.open(&text, &other), None);
        }
        assert_eq!(Seal::new().open(&text, &own), None);
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let seal = Seal::new();
        let own = bond("alice", "m", "tools/call", "{}");
        let text = seal.seal(b"state", &own).unwrap();
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(seal.open(&forged, &own), None, "{at}");
        }
        for odd in [
            "",
            "A",
            "AAAA",
            "====",
            &format!("{text}A"),
            &format!("{text}="),
        ] {
            assert_eq!(seal.open(odd, &own), None, "{odd}");
        }
        assert_ne!(seal.seal(b"state", &own).unwrap(), text);
    }
}
