//! Files with secrets: opening one, and whether other users can read or write it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens a file for reading. Anything else than a regular file is refused at once: to open or read
/// a pipe or a device may take for ever.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    // O_NONBLOCK has no effect on a regular file, and does not wait for the other end of a pipe
    // (open(2), fifo(7)).
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    check_regular(&file)?;
    Ok(file)
}

/// Fails if `file` is not a regular file.
pub(crate) fn check_regular(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(not_regular()) }
}

/// The error about a pipe, a folder, a socket or a device.
pub(crate) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; put a file in its place")
}

/// The mode of an open file, if it lets other users read or write the file. The open file is looked
/// at, because its name might be another file by now.
pub(crate) fn mode_for_others(file: &File) -> io::Result<Option<u32>> {
    let mode = file.metadata()?.mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_a_pipe_is_refused_without_waiting() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::write(path("file"), "x").unwrap();
        assert!(open_regular(&path("file")).is_ok());
        std::fs::create_dir(path("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink("pipe", path("link")).unwrap();
        for name in ["folder", "pipe", "link"] {
            let error = open_regular(&path(name)).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{name}: {error}");
        }
        assert_eq!(open_regular(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
