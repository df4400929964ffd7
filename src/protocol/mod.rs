//! Floor 0: the words of the chat. Names, ids, moments, frames and codes; nothing here does
//! anything but parse and print, and nothing here knows who sends what to whom.

pub mod code;
pub mod frame;
pub mod id;
pub mod name;
pub mod timestamp;

pub use code::{CloseCode, ErrorCode};
pub use id::{Epoch, KeyId, MessageId, Seq, SessionId};
pub use name::{RoomName, UserName};
pub use timestamp::Timestamp;
