//! A store in memory, for tests and for servers that need no history across restarts. The two ends
//! share one structure behind a lock.

mod log;
mod state;

pub use log::open_memory;
#[cfg(any(test, feature = "faults"))]
pub use log::open_sparse_memory;
