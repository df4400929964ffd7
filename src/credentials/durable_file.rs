//! Making renames and new files durable.

use std::fs::File;
use std::io;
use std::path::Path;

/// Syncs the folder that contains `path`. A new or renamed file survives power loss only after its
/// folder was synced (fsync(2)).
pub(crate) fn sync_parent_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
