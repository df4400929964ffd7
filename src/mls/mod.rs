//! End-to-end rooms: the only module that reaches openmls, which implements MLS (RFC 9420).
//!
//! Order of calls: [`State::open`] once per process. Then [`State::step`] for each thing that happens, with one of the
//! functions of [`room`] or [`device`] in it. A step is one transaction: what it changed in the group, in the outbox,
//! in the archive and in the position in the log is stored together or not at all.
//!
//! Nothing is kept between two steps but the open file, because several processes may be the same device. The state of
//! a group is a function of the room log: a device's own commit, too, counts only when it is read there.
//!
//! The current time is an argument; nothing here logs or knows a server. Deliberately absent: standalone proposals,
//! pre-shared keys, secrets of earlier epochs, other cipher suites.

pub mod apply;
pub mod archived;
mod commits;
mod crypto;
pub mod decode;
pub mod device;
pub mod entry;
mod error;
pub mod evidence;
mod facts;
mod folder;
pub mod group;
mod hpke;
pub mod members;
pub mod notices;
pub mod owed;
mod own_entries;
mod reader;
pub mod renewal;
pub mod room;
pub mod rows;
mod senders;
mod state;
mod storage;
mod table;
mod tags;
mod told;
#[cfg(feature = "faults")]
pub mod unruly;

pub use crate::crypto::secret_key::DeviceSecret;
pub use error::RoomError;
pub use folder::FolderError;
pub use state::{OpenError, State, StateError, Step};
pub use table::StorageError;

#[cfg(test)]
mod tests;
