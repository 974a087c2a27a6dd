//! API keys: hashed at rest, compared in constant time.
//!
//! Owns how a key is made, digested and looked up. It must never keep a key itself, presented or
//! made, nor know where one was presented. Invariant: the time of a look-up depends on the number
//! of entries and the length of the presented key, on nothing else.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::secret::Secret;

/// One block of `[[auth.keys]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The principal's name.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Roles the key holds.
    pub roles: Vec<String>,
    /// After this the key is refused.
    pub expires: Option<SystemTime>,
}

/// The longest key that is looked at, bytes; a longer one is malformed.
///
/// It bounds the hashing that a caller without credentials can ask for.
pub const MAX_LENGTH: usize = 4096;

/// What every key of ours begins with.
pub(super) const PREFIX: &str = "gh_";

/// Makes a key: `gh_` and 256 random bits in base64url.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn generate() -> Result<Secret, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(Secret::new(format!(
        "{PREFIX}{}",
        URL_SAFE_NO_PAD.encode(random)
    )))
}

/// What the configuration holds instead of the key.
#[must_use]
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// True when the key is the one whose digest this is; constant time.
#[must_use]
pub fn matches(key: &str, sha256: &[u8; 32]) -> bool {
    digest(key).ct_eq(sha256).into()
}

/// The digests of all entries, laid out for a scan without branches.
///
/// A table keyed by digest would be faster for very many keys and leak nothing useful either (a
/// caller can't steer SHA-256), but a scan costs a few nanoseconds an entry and needs no
/// argument.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    words: Vec<[u64; 4]>,
}

impl Table {
    /// A table whose indices are those of the entries.
    pub(super) fn new(entries: &[Entry]) -> Self {
        Self {
            words: entries.iter().map(|entry| words(&entry.sha256)).collect(),
        }
    }

    /// The index of the entry of a digest: every entry is compared, found or not.
    pub(super) fn find(&self, sha256: &[u8; 32]) -> Option<usize> {
        let [a, b, c, d] = words(sha256);
        let mut found = ABSENT;
        for (index, entry) in (0_u64..).zip(&self.words) {
            let difference = (entry[0] ^ a) | (entry[1] ^ b) | (entry[2] ^ c) | (entry[3] ^ d);
            found.conditional_assign(&index, difference.ct_eq(&0));
        }
        usize::try_from(found).ok().filter(|_| found != ABSENT)
    }
}

/// A digest as four words; the order of bytes is of no account as long as it is always the same.
fn words(sha256: &[u8; 32]) -> [u64; 4] {
    let (chunks, _) = sha256.as_chunks::<8>();
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_ne_bytes(*chunk);
    }
    words
}

/// No entry; an index never gets there.
const ABSENT: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_keys_are_distinct_and_match_only_their_own_digest() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, two);
        assert!(one.expose().starts_with("gh_"));
        assert_eq!(one.expose().len(), 3 + 43);
        assert!(matches(one.expose(), &digest(one.expose())));
        assert!(!matches(two.expose(), &digest(one.expose())));
    }

    #[test]
    fn the_digest_is_plain_sha256() {
        let hex: String = digest("abc")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn every_entry_is_found_and_no_near_miss_is() {
        let entries: Vec<Entry> = (0..40)
            .map(|number: u32| Entry {
                name: number.to_string(),
                sha256: digest(&number.to_string()),
                roles: Vec::new(),
                expires: None,
            })
            .collect();
        let table = Table::new(&entries);
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(table.find(&entry.sha256), Some(index));
            for bit in 0..256 {
                let mut near = entry.sha256;
                near[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(table.find(&near), None);
            }
        }
        assert_eq!(Table::default().find(&[0; 32]), None);
    }
}
