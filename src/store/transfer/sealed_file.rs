//! Reads and writes a file that may be sealed in the age format.

use std::io::{self, BufRead, Read, Write};

use zeroize::Zeroizing;

use crate::crypto::age_file::{AgeError, Recipient};
use crate::crypto::age_stream::{
    CHUNK_BYTES, Chunks, MAGIC, MAX_BEGINNING_BYTES, SEALED_CHUNK_BYTES,
};

/// Writes a file: as it is, or sealed.
pub(super) struct SealedWriter<W> {
    target: W,
    chunks: Option<Chunks>,
    waiting: Zeroizing<Vec<u8>>,
}

impl<W: Write> SealedWriter<W> {
    /// Without a recipient the file is not sealed.
    pub fn new(mut target: W, recipient: Option<&Recipient>) -> io::Result<Self> {
        let mut chunks = None;
        if let Some(recipient) = recipient {
            let (beginning, sealing) = Chunks::seal_for(recipient);
            target.write_all(&beginning)?;
            chunks = Some(sealing);
        }
        let waiting = Zeroizing::new(Vec::with_capacity(2 * CHUNK_BYTES));
        Ok(SealedWriter { target, chunks, waiting })
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        // One byte more: the last chunk is not empty.
        while self.waiting.len() > CHUNK_BYTES {
            let chunk = Zeroizing::new(self.waiting.drain(..CHUNK_BYTES).collect::<Vec<u8>>());
            self.write_chunk(&chunk, false)?;
        }
        Ok(())
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<W> {
        let rest = std::mem::take(&mut self.waiting);
        self.write_chunk(&rest, true)?;
        self.target.flush()?;
        Ok(self.target)
    }

    fn write_chunk(&mut self, chunk: &[u8], is_last: bool) -> io::Result<()> {
        match &mut self.chunks {
            Some(chunks) => self.target.write_all(&chunks.seal(chunk, is_last)),
            None => self.target.write_all(chunk),
        }
    }
}

/// Reads a file: as it is, or unsealed.
pub(super) struct SealedReader<R> {
    source: R,
    chunks: Option<Chunks>,
    chunk: Zeroizing<Vec<u8>>,
    /// How many bytes of the chunk were read.
    used: usize,
    is_at_end: bool,
}

/// Why a file can't be unsealed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnsealError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Age(#[from] AgeError),
    #[error("it is sealed with a passphrase")]
    NoPassphrase,
}

impl<R: BufRead> SealedReader<R> {
    pub fn new(mut source: R, passphrase: Option<&str>) -> Result<Self, UnsealError> {
        let mut beginning = Vec::new();
        (&mut source).take(MAX_BEGINNING_BYTES as u64).read_to_end(&mut beginning)?;
        let (mut chunks, mut used) = (None, 0);
        if beginning.starts_with(MAGIC) {
            let passphrase = passphrase.ok_or(UnsealError::NoPassphrase)?;
            let (opening, length) = Chunks::open_with(&beginning, passphrase)?;
            (chunks, used) = (Some(opening), length);
        }
        let mut reader =
            SealedReader { source, chunks, chunk: Zeroizing::default(), used: 0, is_at_end: false };
        let rest = beginning.split_off(used);
        match reader.chunks {
            Some(_) => reader.next_chunk(rest)?,
            None => *reader.chunk = rest,
        }
        Ok(reader)
    }

    /// Reads the next chunk, of which the first bytes were read already.
    fn next_chunk(&mut self, mut sealed: Vec<u8>) -> io::Result<()> {
        let wanted = SEALED_CHUNK_BYTES - sealed.len();
        (&mut self.source).take(wanted as u64).read_to_end(&mut sealed)?;
        self.is_at_end = self.source.fill_buf()?.is_empty();
        let chunks = self.chunks.as_mut();
        let opened = chunks.and_then(|chunks| chunks.open(&sealed, self.is_at_end));
        let text = "it was cut short or altered";
        self.chunk = opened.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))?;
        self.used = 0;
        Ok(())
    }
}

impl<R: BufRead> Read for SealedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            match self.chunks {
                None => return self.source.read(buffer),
                Some(_) if self.is_at_end => return Ok(0),
                Some(_) => self.next_chunk(Vec::new())?,
            }
        }
        let length = buffer.len().min(self.chunk.len() - self.used);
        buffer[..length].copy_from_slice(&self.chunk[self.used..self.used + length]);
        self.used += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(bytes: &[u8], passphrase: Option<&str>) -> Result<Vec<u8>, String> {
        let mut plain = Vec::new();
        SealedReader::new(BufReader::new(bytes), passphrase)
            .map_err(|error| error.to_string())?
            .read_to_end(&mut plain)
            .map_err(|error| error.to_string())?;
        Ok(plain)
    }

    #[test]
    fn a_file_of_any_length_is_read_as_it_was_written_and_a_cut_one_is_refused() {
        let recipient = Recipient::Passphrase(Zeroizing::new("correct horse".into()));
        for length in [0, CHUNK_BYTES, CHUNK_BYTES + 1] {
            let text: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let write = |recipient| {
                let mut writer = SealedWriter::new(Vec::new(), recipient).unwrap();
                text.chunks(1000).for_each(|part| writer.write_all(part).unwrap());
                writer.finish().unwrap()
            };
            assert_eq!(read(&write(None), None).unwrap(), text, "{length}");
            let sealed = write(Some(&recipient));
            assert_eq!(read(&sealed, Some("correct horse")).unwrap(), text, "{length}");
            let cut = [sealed.len() - 1, sealed.len().saturating_sub(SEALED_CHUNK_BYTES + 9)];
            for end in cut.into_iter().filter(|end| *end > 0) {
                assert!(read(&sealed[..end], Some("correct horse")).is_err(), "{length}, {end}");
            }
            let error = read(&sealed, None).unwrap_err();
            assert!(error.contains("passphrase"), "{error}");
        }
    }
}
