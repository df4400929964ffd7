//! The client's tokio runtime: one thread.

use std::fs::File;
use std::io;

use super::exit_code::{ExitCode, Refusal};

/// File descriptors that the runtime, the signals and a connection take.
const MIN_DESCRIPTORS: usize = 16;

/// Runs a future to its end. Threads that still wait for input do not keep the process.
pub fn block_on(run: impl Future<Output = Result<ExitCode, Refusal>>) -> Result<ExitCode, Refusal> {
    check_descriptors()
        .map_err(|error| (ExitCode::NoServer, format!("can't start: {error} (ulimit -n)")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (ExitCode::NoServer, format!("can't start: {error}")))?;
    let ended = runtime.block_on(run);
    runtime.shutdown_background();
    ended
}

/// Whether the process may open as many files as the runtime needs: it panics where it can't.
fn check_descriptors() -> io::Result<()> {
    let opened: io::Result<Vec<File>> =
        (0..MIN_DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    opened.map(drop)
}
