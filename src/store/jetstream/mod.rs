//! The store of the room log on NATS JetStream, for several servers that share their rooms.

mod access_value;
mod engine;
