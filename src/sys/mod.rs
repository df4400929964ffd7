//! The process and its operating system: signals, systemd, logging and threads.

pub mod fault_points;
pub mod logging;
pub mod signals;
pub mod systemd;
pub mod thread;
