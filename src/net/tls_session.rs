//! TLS on a connection whose handshake is complete: bytes become records, and records become bytes.
//! The session reads from no socket and writes to none, so any thread that holds it can use it.

use std::io::{self, IoSlice, Read as _, Write as _};

use rustls::ServerConnection;

/// The most bytes in a record (RFC 8446, section 5.2).
pub const MAX_RECORD_BYTES: usize = 16 * 1024 + 256;

/// The cipher state of one connection.
pub struct TlsSession(Box<ServerConnection>);

/// The result of decrypting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decrypted {
    /// So many bytes were decrypted; more may come.
    Bytes(usize),
    /// The client has ended its side (RFC 8446, section 6.1).
    End,
}

impl TlsSession {
    /// Takes over a connection after its handshake.
    pub fn new(connection: ServerConnection) -> Self {
        TlsSession(Box::new(connection))
    }

    /// Encrypts bytes of `pieces`, from the first on, and appends the records to `records`. Returns how
    /// many bytes were encrypted, which may be fewer than there are.
    pub fn encrypt(&mut self, pieces: &[IoSlice<'_>], records: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.0.writer().write_vectored(pieces)?;
        self.take_records(records);
        Ok(count)
    }

    /// Decrypts what has come from the socket into `into`, which must have room for `came` and for a record
    /// ([`MAX_RECORD_BYTES`]) of which the beginning came before. Bytes that are no whole record yet are
    /// kept. Answers that TLS itself gives are appended to `records`.
    pub fn decrypt(
        &mut self,
        mut came: &[u8],
        into: &mut [u8],
        records: &mut Vec<u8>,
    ) -> io::Result<Decrypted> {
        let mut count = 0;
        loop {
            match self.0.reader().read(&mut into[count..]) {
                Ok(0) if count == 0 && !into.is_empty() => return Ok(Decrypted::End),
                Ok(0) => return Ok(Decrypted::Bytes(count)),
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if came.is_empty() {
                        return Ok(Decrypted::Bytes(count));
                    }
                    self.0.read_tls(&mut came)?;
                    let outcome = self.0.process_new_packets();
                    self.take_records(records);
                    outcome.map_err(io::Error::other)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends this side of the connection. Later calls have no effect.
    pub fn close(&mut self, records: &mut Vec<u8>) {
        self.0.send_close_notify();
        self.take_records(records);
    }

    /// Appends the records that are to be sent.
    fn take_records(&mut self, records: &mut Vec<u8>) {
        while self.0.wants_write() {
            // A vector takes everything.
            if self.0.write_tls(records).is_err() {
                return;
            }
        }
    }
}
