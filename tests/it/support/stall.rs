//! Makes a server stall at a fault point.

use tempfile::TempDir;

use super::programs;

/// A fault point at which a server stalls while [`Stall::begin`] was called last, not [`Stall::end`].
pub struct Stall {
    point: String,
    folder: TempDir,
}

impl Stall {
    /// `None`, said on standard error, if the programs have no fault points; `test` is skipped then.
    pub fn at(point: &str, test: &str) -> Option<Stall> {
        let stall = || Stall { point: point.into(), folder: tempfile::tempdir().unwrap() };
        programs::have_faults(test).then(stall)
    }

    /// The environment variable that names the point.
    pub fn variable(&self) -> (&'static str, String) {
        ("CHAT_TEST_STALL", format!("{}={}", self.point, self.file().display()))
    }

    /// From now on the server stalls when it comes to the point.
    pub fn begin(&self) {
        std::fs::write(self.file(), "").unwrap();
    }

    /// The server goes on.
    pub fn end(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("stall")
    }
}
