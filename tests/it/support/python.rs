//! Real Python clients and servers, run in the virtual environment that `scripts/test` makes.

use std::path::PathBuf;
use std::process::Command;

/// The Python interpreter of the virtual environment.
pub fn interpreter() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let venv =
        std::env::var_os("CHAT_TEST_VENV").map_or(root.join("target/test-venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.exists(), "{} is missing: run scripts/test, which makes it", python.display());
    python
}

/// A script of `tests/python`.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(interpreter());
    command
        .arg("-u")
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name));
    command
}
