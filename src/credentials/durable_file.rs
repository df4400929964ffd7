//! Files that survive power loss, and that belong to the owner of their folder.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::private_file::{check_regular, not_regular};

/// Syncs the folder that contains `path`. A new or renamed file survives power loss only after its
/// folder was synced (fsync(2)).
pub(crate) fn sync_parent_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Creates a file of mode 0600 that does not exist yet, for the owner of its folder.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    give_to_owner(&file, &folder_of(path).metadata()?)?;
    Ok(file)
}

/// Opens a file for writing, or creates it with mode 0600. The file gets the owner of its folder,
/// also if an earlier command of another user left it behind. A symbolic link is refused, and
/// anything else than a regular file.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            // A pipe that no process reads (open(2)).
            Some(Errno::NXIO) => not_regular(),
            _ => error,
        })?;
    check_regular(&file)?;
    give_to_owner(&file, &folder_of(path).metadata()?)?;
    Ok(file)
}

/// Creates a folder of mode 0700 and the folders above it, if they are missing. Each new folder
/// gets the owner of the folder above it.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    create_folder(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Another process was faster, or the error is about a file of this name.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => give_to_owner(&File::open(path)?, &parent.metadata()?),
    }
}

/// Gives every regular file in `folder` to the owner of the folder; the error names the file.
pub(crate) fn give_files_to_owner(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let owner = folder.metadata().map_err(failed(folder))?;
    for entry in folder.read_dir().map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        // Not through a symbolic link, and not a pipe or a device.
        if path.symlink_metadata().is_ok_and(|found| found.is_file() && !has_owner(&found, &owner))
        {
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            OpenOptions::new()
                .read(true)
                .custom_flags(flags.bits().cast_signed())
                .open(&path)
                .and_then(|file| give_to_owner(&file, &owner))
                .map_err(failed(&path))?;
        }
    }
    Ok(())
}

/// The first of the names `path.replaced-1`, `path.replaced-2` … that does not exist: where a restore
/// moves what it replaces.
pub(crate) fn replaced_name(path: &Path) -> PathBuf {
    let mut names = (1..).map(|number: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".replaced-{number}"));
        PathBuf::from(name)
    });
    names.find(|name| name.symlink_metadata().is_err()).expect("the numbers do not end")
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Sets the owner of an open file. A file with a second name is left alone: the other name may be
/// in a folder of somebody else.
fn give_to_owner(file: &File, owner: &Metadata) -> io::Result<()> {
    let found = file.metadata()?;
    if has_owner(&found, owner) || (found.is_file() && found.nlink() != 1) {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        // Only root may change the owner of a file (chown(2)). A file that another user writes
        // stays that user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

fn has_owner(found: &Metadata, owner: &Metadata) -> bool {
    found.uid() == owner.uid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(replaced_name(&path("access.json")), path("access.json.replaced-1"));
        assert_eq!(replaced_name(&path("users")), path("users.replaced-1"));
        // A link that leads nowhere is a name in use.
        std::os::unix::fs::symlink("nowhere", path("users.toml.replaced-1")).unwrap();
        assert_eq!(replaced_name(&path("users.toml")), path("users.toml.replaced-2"));
    }
}
