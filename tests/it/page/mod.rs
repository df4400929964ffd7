//! The page at `/` in a real Chromium.

mod access;
mod conversation;
mod files;
mod harness;
mod hostile;
mod looks;
mod offline;
mod payloads;
mod person;
mod tokens;
