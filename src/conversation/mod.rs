//! Both sides of the protocol as state machines without I/O: the effect of each frame, and the frames
//! to send. Time is an argument. A test can run a whole conversation without a socket.

pub mod client;
pub mod server;
