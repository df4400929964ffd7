//! The subcommands about end-to-end rooms: `room`, `verify` and `device`.

pub mod device;
pub mod room;
pub mod verify;
