//! A store in memory, for tests and for servers that need no history across restarts. The two ends
//! share one structure behind a lock.

mod log;
mod state;

pub use log::open_memory;
