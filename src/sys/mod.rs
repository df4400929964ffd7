//! The process and its operating system: signals, systemd, the server log, threads and test faults.

pub mod clock;
#[cfg(feature = "server")]
pub mod credentials;
#[cfg(feature = "server")]
pub mod fault_points;
mod ignored_signals;
#[cfg(feature = "server")]
pub mod log_line;
#[cfg(feature = "server")]
pub mod log_watch;
#[cfg(feature = "server")]
pub mod logging;
#[cfg(feature = "client")]
pub mod process_group;
#[cfg(feature = "server")]
pub mod process_usage;
pub mod qr_code;
pub mod signal_mask;
#[cfg(feature = "server")]
pub mod signals;
#[cfg(feature = "client")]
pub mod stdio;
#[cfg(feature = "server")]
pub mod systemd;
#[cfg(feature = "client")]
pub mod terminal_signals;
#[cfg(feature = "client")]
pub mod termination_signal;
#[cfg(feature = "server")]
pub mod thread;
pub mod user;
