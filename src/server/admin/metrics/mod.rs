//! `/metrics`, `/healthz` and `/readyz`, on a listener of their own.
//!
//! `collect` reads every figure into a [`family::Family`], `text` writes the families in the format that
//! `negotiation` chose, and `listener` serves them. No part of the server is asked and no list of sessions or
//! rooms is walked, so an answer costs the same however many there are, and comes also while the hub hangs.

mod cluster;
mod collect;
mod family;
mod listener;
mod negotiation;
mod text;

pub use listener::{bind, serve};
