//! Moves a history from one store to another: [`export`] writes every room into a file, and [`import`] appends what is in
//! such a file.
//!
//! The form of the file is in `form`, and in docs/backup.md for people. An import can be repeated: what the store has
//! already is compared with the file, and the rest is appended.

mod error;
mod export;
mod form;
mod import;
mod sealed_file;

pub use error::TransferError;
pub use export::{Exported, export};
pub use import::{ExportFile, Imported, import};
