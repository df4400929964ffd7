//! The client's tokio runtime: one thread.

use super::exit_code::{ExitCode, Refusal};

/// Runs a future to its end. Threads that still wait for input do not keep the process.
pub fn block_on(run: impl Future<Output = Result<ExitCode, Refusal>>) -> Result<ExitCode, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (ExitCode::NoServer, format!("can't start: {error}")))?;
    let ended = runtime.block_on(run);
    runtime.shutdown_background();
    ended
}
