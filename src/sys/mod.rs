//! The process and its operating system: signals, systemd, the server log, threads and test faults.

pub mod fault_points;
pub mod logging;
pub mod signals;
pub mod systemd;
pub mod termination_signal;
pub mod thread;
