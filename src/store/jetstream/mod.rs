//! The store of the room log on NATS JetStream, for several servers that share their rooms.
//!
//! A room is a subject in one of a few streams; the number of a message is its number in the stream. Every server
//! appends to every stream, follows all of them, and reads pages by direct get. What it keeps in memory of a stream is in
//! `log_state`. The engine is behind a trait, so that unit tests have one that delays, forgets and repeats.

mod append;
mod cluster;
mod deletion;
mod engine;
mod epoch;
mod janitor;
mod log_state;
mod names;
mod open;
mod publish;
mod reader;
mod record;
mod scan;
mod tail;
#[cfg(test)]
mod tests;
mod writer;
