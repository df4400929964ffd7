//! The conversation on a terminal: a front end of the driver with a line editor.
//!
//! Bytes become keys (`keys`), keys change the line (`line`), the line and the texts around it become
//! bytes for the terminal (`layout`, `view`); these four know no terminal and no clock. `console` owns the
//! real one (`mode`), and `chat` the conversation.

mod chat;
mod command;
mod console;
mod end_to_end;
mod keys;
mod layout;
mod line;
mod mode;
mod questions;
mod received;
mod room_label;
mod run;
mod unsent;
mod view;

pub use run::run;
