//! End-to-end rooms in the client: between the frames of the server and the groups of this device.
//!
//! The driver owns an [`EndToEnd`] and repeats this order of calls: [`EndToEnd::registered`] after each `welcome`,
//! [`EndToEnd::receive`] for each frame about such a room, [`EndToEnd::settle`] when nothing more can be read at once,
//! and [`EndToEnd::items`] for what is to be shown. Entries are read in one step of the state for as many as have come,
//! messages are encrypted in one step for as many as wait, and everything that is shown comes out of the archive.

mod acks;
mod again;
mod changes;
mod entrance;
mod frames;
mod home;
mod identity;
mod invitation;
mod items;
mod log_reading;
mod machine;
mod members;
mod problem;
mod queued;
mod removal;
mod session;
mod settle;
mod showing;
mod trust;
mod wish;

pub use home::{EndToEndOptions, credential, folder};
pub use identity::{Identity, certify, make};
pub use machine::EndToEnd;
pub use problem::{Kind, Problem};
pub use trust::{StepError, day};
pub use wish::Action;
