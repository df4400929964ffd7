//! TLS in a send queue: pieces are encrypted just before they are written.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};

use crate::net::tls_session::{Decrypted, TlsSession};

thread_local! {
    /// Records on their way to a socket.
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The TLS of one connection.
pub(super) struct Encryption {
    session: TlsSession,
    /// Records that the socket has not taken yet. They can't be discarded: the next record would not be
    /// accepted.
    records: Bytes,
}

impl Encryption {
    pub fn new(session: TlsSession) -> Self {
        Encryption { session, records: Bytes::new() }
    }

    /// Bytes of records that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.records.len()
    }

    /// Forgets the records of a lost connection.
    pub fn disconnect(&mut self) {
        self.records = Bytes::new();
    }

    /// Encrypts whole frames and appends the records to `records`. The caller writes them and gives the
    /// rest to [`Self::keep`]. Nothing may wait.
    pub fn encrypt(&mut self, mut frames: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        while !frames.is_empty() {
            let count = self.session.encrypt(&[IoSlice::new(frames)], records)?;
            frames = &frames[count..];
        }
        Ok(())
    }

    /// Keeps records until the socket takes them.
    pub fn keep(&mut self, records: &[u8]) {
        if self.records.is_empty() {
            self.records = Bytes::copy_from_slice(records);
        } else if !records.is_empty() {
            self.records = [&self.records, records].concat().into();
        }
    }

    /// Decrypts what has come from the socket; see [`TlsSession::decrypt`]. An answer of TLS is kept.
    pub fn decrypt(&mut self, came: &[u8], into: &mut [u8]) -> io::Result<Decrypted> {
        let mut answer = Vec::new();
        let decrypted = self.session.decrypt(came, into, &mut answer);
        self.keep(&answer);
        decrypted
    }

    /// Ends this side of the connection.
    pub fn close(&mut self) {
        let mut last = Vec::new();
        self.session.close(&mut last);
        self.keep(&last);
    }

    /// Gives records to `write`, which returns how many bytes the socket has taken: those that wait, or else
    /// those of the next `pieces`. Returns how many bytes of the pieces were encrypted.
    pub fn write(
        &mut self,
        pieces: &[IoSlice<'_>],
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> (usize, io::Result<()>) {
        if !self.records.is_empty() {
            let outcome = write(&self.records).and_then(taken);
            return (0, outcome.map(|count| self.records.advance(count)));
        }
        RECORDS.with_borrow_mut(|records| {
            records.clear();
            let encrypted = match self.session.encrypt(pieces, records) {
                Ok(count) => count,
                Err(error) => return (0, Err(error)),
            };
            let outcome = write(records).and_then(taken);
            self.keep(&records[*outcome.as_ref().unwrap_or(&0)..]);
            (encrypted, outcome.map(drop))
        })
    }
}

/// A socket that takes nothing and reports no error is broken.
pub(super) fn taken(count: usize) -> io::Result<usize> {
    if count > 0 { Ok(count) } else { Err(io::ErrorKind::WriteZero.into()) }
}
