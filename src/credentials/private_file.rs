//! Files with secrets: whether other users can read or write them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// The mode of an open file, if it lets other users read or write the file. The open file is looked
/// at, because its name might be another file by now.
pub(crate) fn mode_for_others(file: &File) -> io::Result<Option<u32>> {
    let mode = file.metadata()?.mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}
