//! Rooms: the hub that owns them, the log writer that appends and commits, and the acks.

pub mod acks;
pub mod delivery;
pub mod hub;
pub mod log_writer;
pub mod membership;
pub mod operator;
pub mod peer;
pub mod room;
