//! The values and frames of the wire: names, ids, timestamps, frames and codes. This layer only parses
//! and prints; the order of frames belongs to `conversation`.

pub mod base32;
pub mod code;
pub mod decoder;
pub mod device;
pub mod end_to_end;
#[cfg(feature = "client")]
pub mod envelope;
pub mod frame;
pub mod hex;
pub mod id;
pub mod invitation;
pub mod json_line;
pub mod mask;
pub mod name;
pub mod random;
#[cfg(feature = "client")]
pub mod room_terms;
pub mod seq_range;
pub mod timestamp;

pub use code::{CloseCode, ErrorCode};
pub use id::{Epoch, KeyId, MessageId, Seq, SessionId};
pub use name::{RoomName, UserName};
pub use seq_range::SeqRange;
pub use timestamp::Timestamp;
