//! Backups of the folder, and restores.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::model::Record;
use super::random::Random;
use super::world::{End, Expected, STORE, World};

/// The state of the server while its folder is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupOf {
    Stopped(End),
    Running,
    RunningUnderLoad,
}

/// How a backup takes the place of the present folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreInto {
    /// Of an empty folder, by `cp -a`.
    Empty,
    /// Over the present files, by `cp -a`.
    Present,
    /// Over the present files, writing only blocks that differ, as `rsync --inplace` does.
    InPlace,
    /// Only the main file of the store is copied over the present one.
    MainFileOnly,
}

pub struct Backup {
    folder: PathBuf,
    of: BackupOf,
    record: Record,
    /// The record when the copying began.
    floor: Record,
}

impl World {
    pub fn has_backups(&self) -> bool {
        !self.backups.is_empty()
    }

    pub fn back_up(&mut self, of: BackupOf) {
        let folder = self.new_folder("backup");
        let floor = self.record.clone();
        match of {
            BackupOf::Stopped(end) => {
                self.end(end);
                copy(&self.store, &folder);
                self.begin(Expected::Complete);
            }
            BackupOf::Running => copy(&self.store, &folder),
            BackupOf::RunningUnderLoad => {
                let before = self.record.rooms[0].last();
                let senders = (0..2).map(|user| self.sender(0, user, 15)).collect();
                copy(&self.store, &folder);
                self.finish_senders(0, before, senders);
            }
        }
        let mut record = self.record.clone();
        record.starts.clone_from(&floor.starts);
        self.backups.push(Backup { folder, of, record, floor });
    }

    /// Ends the server and puts a backup in the place of its folder.
    pub fn restore(&mut self, end: End, newest: bool, into: RestoreInto, random: &mut Random) {
        let choice = if newest { self.backups.len() - 1 } else { random.below(self.backups.len()) };
        self.end(end);
        let Backup { folder, of, record, floor } = &self.backups[choice];
        let (of, floor) = (*of, floor.clone());
        let present = std::mem::replace(&mut self.record, record.clone());
        let from = |name: &str| folder.join(name);
        match into {
            RestoreInto::Empty => {
                fs::remove_dir_all(&self.store).unwrap();
                copy(folder, &self.store);
            }
            RestoreInto::Present => copy(folder, &self.store),
            RestoreInto::InPlace => {
                for file in fs::read_dir(folder).unwrap() {
                    let name = file.unwrap().file_name();
                    write_in_place(&folder.join(&name), &self.store.join(&name));
                }
            }
            RestoreInto::MainFileOnly => write_in_place(&from(STORE), &self.store.join(STORE)),
        }
        let is_closed = of == BackupOf::Stopped(End::Clean);
        match (into, of) {
            // The write-ahead log beside it is of another moment.
            (RestoreInto::MainFileOnly, _) if !is_closed && end == End::Crash => {
                self.record.starts.extend(&present.starts);
                self.record.doubtful.clone_from(&self.record.starts);
                self.begin(Expected::Anything);
                self.record.rooms = self.observe_all();
            }
            (RestoreInto::MainFileOnly, _) => {
                self.begin(Expected::Lost);
                let found = self.observe_all();
                assert!(!is_closed || found == self.record.rooms, "{found:?}");
                self.record.rooms = found;
            }
            (_, BackupOf::RunningUnderLoad) => {
                self.record.doubtful.clone_from(&self.record.starts);
                if !self.begin(Expected::Anything) {
                    self.record.doubtful.clear();
                }
                self.record.rooms = self.observe_all();
                self.assert_holds(&floor);
            }
            _ => drop(self.begin(Expected::Complete)),
        }
        self.record_at_start = self.record.clone();
    }
}

/// `cp -a FROM/. TO`
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.unwrap().success());
}

/// Makes a file like another one, and keeps its inode.
fn write_in_place(from: &Path, to: &Path) {
    const BLOCK: usize = 4096;
    let (new, old) = (fs::read(from).unwrap(), fs::read(to).unwrap_or_default());
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(to).unwrap();
    for (number, block) in new.chunks(BLOCK).enumerate() {
        if old.chunks(BLOCK).nth(number) != Some(block) {
            file.write_all_at(block, (number * BLOCK) as u64).unwrap();
        }
    }
    file.set_len(new.len() as u64).unwrap();
    file.set_permissions(fs::metadata(from).unwrap().permissions()).unwrap();
}
