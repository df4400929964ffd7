//! What a run in a pipe tells its user about the connection.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::driver::Update;
use super::exit_code::print_error;
use super::failure::Failure;

/// Reports failed attempts to connect, once per lost connection.
#[derive(Default)]
pub struct RetryReport {
    reported: bool,
}

impl RetryReport {
    /// The text frame that an update brings, if it brings one. Everything else is dealt with here.
    pub fn frame_of(&mut self, update: Update) -> Result<Option<Utf8Bytes>, Failure> {
        match update {
            Update::Frame(text) => return Ok(Some(text)),
            Update::Failed(failure) => return Err(failure),
            Update::Disconnected => self.reported = false,
            Update::Retrying(error) => {
                if !std::mem::replace(&mut self.reported, true) {
                    print_error(&format!("{error}; trying again"));
                }
            }
        }
        Ok(None)
    }
}
