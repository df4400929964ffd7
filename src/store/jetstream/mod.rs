//! The store of the room log on NATS JetStream, for several servers that share their rooms.

mod engine;
mod nats;
mod nats_call;
mod nats_connect;
mod nats_error;
mod nats_follow;
mod nats_publish;
mod nats_read;

#[cfg(test)]
mod nats_tests;
