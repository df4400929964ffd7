//! The disk space that a store uses, and how much is free.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::credentials::at_rest_key::STORE_FILE;

/// `st_blocks` counts blocks of this size (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The disk usage of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// The bytes of all files of the store: the main file, the write-ahead log, and `.damaged-N` files.
    pub bytes: u64,
    /// The bytes of the write-ahead log alone.
    pub wal_bytes: u64,
    /// The bytes of the `.damaged-N` files alone.
    pub damaged_bytes: u64,
    /// The bytes that this user may still write to the file system.
    pub free_bytes: u64,
    /// The size of the file system in bytes.
    pub total_bytes: u64,
}

impl DiskUsage {
    /// Measures the store in a folder. Blocks while the disk does not answer.
    pub fn measure(folder: &Path) -> io::Result<Self> {
        let mut usage = DiskUsage::default();
        for file in std::fs::read_dir(folder)? {
            let file = file?;
            let name = file.file_name();
            let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(STORE_FILE)) else {
                continue;
            };
            // A file may be removed meanwhile.
            let bytes = file.metadata().map_or(0, |found| found.blocks() * BLOCK_BYTES);
            usage.bytes += bytes;
            match suffix {
                "-wal" => usage.wal_bytes = bytes,
                _ if suffix.starts_with(".damaged-") => usage.damaged_bytes += bytes,
                _ => {}
            }
        }
        let system = rustix::fs::statvfs(folder)?;
        usage.free_bytes = system.f_bavail.saturating_mul(system.f_frsize);
        usage.total_bytes = system.f_blocks.saturating_mul(system.f_frsize);
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_count_and_other_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes| std::fs::write(folder.path().join(name), vec![1; bytes]);
        write("history.sqlite3", 8192).unwrap();
        write("history.sqlite3-wal", 4096).unwrap();
        write("history.sqlite3.damaged-1", 16384).unwrap();
        write("elsewhere", 65536).unwrap();
        let usage = DiskUsage::measure(folder.path()).unwrap();
        assert_eq!((usage.bytes, usage.wal_bytes, usage.damaged_bytes), (28672, 4096, 16384));
        assert!(usage.free_bytes > 0 && usage.free_bytes <= usage.total_bytes, "{usage:?}");
    }
}
