//! Files of any length in the age format, version 1, in its binary form, so that `age -d` opens them too.
//!
//! The format cuts a file into chunks of 64 KiB. Each is encrypted with its number, and the last one says that it is the
//! last. So a file that was cut off, or whose chunks were exchanged, does not open.

use zeroize::Zeroizing;

use super::age_file::{self, AgeError, Key, Recipient};

/// The plaintext of a chunk; only the last one may be shorter.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// What the cipher adds to a chunk.
const TAG_BYTES: usize = 16;
/// A sealed chunk.
pub(crate) const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// The first chunk begins within so many bytes.
pub(crate) const MAX_BEGINNING_BYTES: usize = 4096;
/// By these bytes a file of the format is recognised.
pub(crate) const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// Seals or opens the chunks of one file, in their order.
pub(crate) struct Chunks {
    key: Key,
    number: u64,
}

impl Chunks {
    /// Begins a file. Returns its first bytes.
    pub fn seal_for(recipient: &Recipient) -> (Vec<u8>, Self) {
        let (beginning, key) = age_file::begin(recipient);
        (beginning, Chunks { key, number: 0 })
    }

    /// Opens a file by its first bytes, at most [`MAX_BEGINNING_BYTES`]. Returns also how many of them come before the
    /// first chunk.
    pub fn open_with(beginning: &[u8], passphrase: &str) -> Result<(Self, usize), AgeError> {
        let (key, rest) = age_file::open_begin(beginning, passphrase)?;
        Ok((Chunks { key, number: 0 }, beginning.len() - rest.len()))
    }

    /// Seals the next chunk. All but the last have [`CHUNK_BYTES`] bytes.
    pub fn seal(&mut self, plain: &[u8], is_last: bool) -> Vec<u8> {
        let nonce = self.next_nonce(is_last);
        age_file::encrypt(&self.key, nonce, plain)
    }

    /// Opens the next chunk; `None` if it is damaged, or not the next one.
    pub fn open(&mut self, sealed: &[u8], is_last: bool) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = self.next_nonce(is_last);
        age_file::decrypt(&self.key, nonce, sealed)
    }

    fn next_nonce(&mut self, is_last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(is_last);
        self.number += 1;
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_open_in_their_order_only_and_the_last_one_as_the_last() {
        let passphrase = Recipient::Passphrase(Zeroizing::new("correct horse".into()));
        let (beginning, key) = age_file::begin_with(&passphrase, 4);
        let mut sealing = Chunks { key, number: 0 };
        let (one, two) = (sealing.seal(&[1; CHUNK_BYTES], false), sealing.seal(b"end", true));
        let open = || {
            let (chunks, length) = Chunks::open_with(&beginning, "correct horse").unwrap();
            assert_eq!(length, beginning.len());
            chunks
        };
        let mut chunks = open();
        assert_eq!(chunks.open(&one, false).unwrap()[..], [1; CHUNK_BYTES]);
        assert_eq!(chunks.open(&two, true).unwrap()[..], *b"end");
        assert!(open().open(&two, true).is_none(), "the first is missing");
        assert!(open().open(&one, true).is_none(), "the end is missing");
        let wrong = Chunks::open_with(&beginning, "wrong horse");
        assert!(matches!(wrong, Err(AgeError::WrongPassphrase)));
    }
}
