//! A real Chromium, driven over the DevTools protocol.
//!
//! A [`Browser`] is one process. Each [`Tab`] in it has a browser context of its own (storage, service workers,
//! permissions), as if it were in another person's browser. What a page must never do (uncaught exceptions,
//! violations of its Content-Security-Policy, dialogs, requests to others) is noted from the start and fails the test
//! when the browser is dropped.
//!
//! The protocol goes over two pipes and not over a port: there is nothing to connect to for others, and Chromium exits
//! when the pipes close, also after a SIGKILL of the tests.

mod devtools;
mod keys;
mod process;
mod tab;

pub use process::Browser;
pub use tab::{Tab, Window};
