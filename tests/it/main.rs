//! What the programs promise, told through the real binaries.

mod reliability;
mod support;
