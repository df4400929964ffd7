//! End-to-end rooms on the server: names, rights, and the one rule. The devices send opaque bytes.

mod backup;
mod deposits;
mod device;
mod entry;
mod rights;
mod rule;
