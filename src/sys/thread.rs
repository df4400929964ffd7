//! Threads that are waited for like tasks.

use std::io;

use tokio::sync::oneshot;

/// Comes, if only as an error, when a thread has ended.
pub type Ended = oneshot::Receiver<()>;

/// Does a deed on a thread of its own, called `name` (15 bytes at most: prctl(2)).
pub fn spawn(name: &str, deed: impl FnOnce() + Send + 'static) -> io::Result<Ended> {
    let (ending, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let _ending = ending;
        deed();
    })?;
    Ok(ended)
}
