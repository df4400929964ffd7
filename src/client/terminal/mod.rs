//! The conversation on a terminal: a front end of the driver with a line editor.

mod chat;
mod editor;
mod run;
mod screen;

pub use run::run;
