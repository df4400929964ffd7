//! The programs under test: those that cargo built for the tests, or those of another build.
//!
//! `CHAT_TEST_PROGRAMS` names the folder of another build, relative to the repository. `scripts/test` runs the tests
//! again with `target/release`: the programs as people build them, optimised and without the feature `faults`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// `chat-server`.
pub fn server() -> PathBuf {
    folder().map_or(env!("CARGO_BIN_EXE_chat-server").into(), |folder| folder.join("chat-server"))
}

/// `chat-client`.
pub fn client() -> PathBuf {
    folder().map_or(env!("CARGO_BIN_EXE_chat-client").into(), |folder| folder.join("chat-client"))
}

/// Whether the programs are optimised, so that promises about time hold for them.
pub fn are_optimised() -> bool {
    folder().is_some() || !cfg!(debug_assertions)
}

/// Whether the programs have the feature `faults`. If not, this says on standard error that `test` is skipped; the test
/// returns.
pub fn have_faults(test: &str) -> bool {
    if folder().is_none() {
        return true;
    }
    // Unlike `eprintln!`, this is shown for tests that pass, too.
    let reason = "the programs of CHAT_TEST_PROGRAMS are built without the feature `faults`";
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
    false
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CHAT_TEST_PROGRAMS")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    assert!(
        folder.join("chat-server").exists(),
        "{}: run cargo build --release --bins",
        folder.display()
    );
    Some(folder)
}
