//! Named threads whose end can be awaited like that of a task.

use std::io;

use tokio::sync::oneshot;

/// Resolves, with an error, when the thread has ended, also by a panic.
pub type Ended = oneshot::Receiver<()>;

/// Runs `work` on a new thread called `name` (at most 15 bytes: prctl(2), `PR_SET_NAME`).
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Ended> {
    let (guard, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let _guard = guard;
        work();
    })?;
    Ok(ended)
}
