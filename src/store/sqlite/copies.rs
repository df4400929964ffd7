//! Older copies of a store that lie beside it: damaged files that were moved aside, and what a restore
//! replaced. Nothing is erased from them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::credentials::at_rest_key::STORE_FILE;

/// The older copies beside the store in a folder, sorted. Blocks while the disk does not answer.
pub fn older_copies(folder: &Path) -> Vec<PathBuf> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let damaged = named(folder, &format!("{STORE_FILE}.damaged-"));
    let replaced = folder.parent().map(|parent| named(parent, &format!("{name}.replaced-")));
    let mut copies: Vec<PathBuf> =
        damaged.into_iter().chain(replaced.unwrap_or_default()).collect();
    copies.sort();
    copies
}

/// What in a folder has a name that begins like this.
fn named(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let matching = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    matching.map(|file| file.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_and_replaced_folders_are_named_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("history");
        fs::create_dir(&folder).unwrap();
        for file in
            ["history.sqlite3", "history.sqlite3.damaged-2", "history.sqlite3.damaged-1-wal"]
        {
            fs::write(folder.join(file), "").unwrap();
        }
        for other in ["history.replaced-1", "other.replaced-1"] {
            fs::create_dir(parent.path().join(other)).unwrap();
        }
        let found: Vec<_> = older_copies(&folder)
            .iter()
            .map(|path| path.strip_prefix(parent.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(
            found,
            [
                "history/history.sqlite3.damaged-1-wal",
                "history/history.sqlite3.damaged-2",
                "history.replaced-1",
            ]
        );
        assert!(older_copies(Path::new("/none/here")).is_empty());
    }
}
