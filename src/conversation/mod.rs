//! Both sides of the protocol as sans-I/O state machines: what a frame means in a state, and what is
//! sent in return. A test plays a whole conversation without a socket.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
