//! Rooms: the hub that owns them, the log writer that appends and commits, and the acks.
//!
//! From the bottom up: `encoding` (frames for each kind of reader), `peer` (a session as others see it), `room`, the values that sessions and the
//! hub exchange (`command`, `config`, `status`, `committed`, `deletion`, `log_event`), `acks`, `prune_log`,
//! `eraser`, `pending_drafts`, `outcomes`, `append`, `draft_batch`, `log_writer`, `log_tail`, `log_writers`, `drain_schedule`, `hub`, and the parts of the hub: `membership`, `presence`,
//! `delivery`, `rotation`, `access`, `redaction`, `drain`, `status_queries`.

mod access;
pub mod acks;
mod append;
pub mod command;
mod committed;
pub mod config;
pub mod deletion;
pub mod delivery;
pub mod deposits;
mod draft_batch;
mod drain;
mod drain_schedule;
pub mod elsewhere;
pub mod encoding;
mod eraser;
pub mod health;
pub mod hub;
pub mod log_event;
mod log_tail;
pub mod log_writer;
pub mod log_writer_health;
mod log_writer_stats;
pub mod log_writers;
pub mod membership;
pub mod opening;
mod outcomes;
pub mod peer;
mod pending_drafts;
mod presence;
pub mod presence_changes;
#[cfg(test)]
mod presence_tests;
mod prune_log;
pub mod question;
mod recent;
pub mod redaction;
mod room;
mod rooms_full_log;
mod rotation;
pub mod status;
mod status_queries;
