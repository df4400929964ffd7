//! Both sides of the protocol as state machines without I/O: the effect of each frame, and the frames
//! to send. Time is an argument. A test can run a whole conversation without a socket.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
pub mod since;
