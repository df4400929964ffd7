//! Floor 3: doors to the outside with plain values in and out. Nothing here spawns, waits for a
//! peer, or logs; what went wrong is returned.

pub mod access;
pub mod config;
pub mod keyfile;
pub mod log;
