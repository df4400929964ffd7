//! Floor 4: what knows the operating system. Sockets and their queues, TLS, signals, the log
//! writer, systemd. Nothing here knows what a room is.

pub mod call;
pub mod dial;
pub mod frames;
pub mod listen;
pub mod logging;
pub mod notify;
pub mod outbound;
pub mod pages;
pub mod plug;
pub mod signals;
pub mod thread;
pub mod tls;
pub mod trust;
pub mod uring;
