//! Floor 2: the conversation. What a frame means in a state and what is owed in return; pure, so
//! a test plays a whole dialogue without a socket.

pub mod client;
pub mod heard;
pub mod opening;
