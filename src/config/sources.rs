//! Where a configuration comes from, and the folders that the environment names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::environment::{is_key_variable, variable_of};
use super::error::Problem;
use super::file;

/// The sources of a configuration. The environment is an argument, not read from the process.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file that the operator named.
    pub file: Option<PathBuf>,
    /// The file to read if none is named and this one exists; checked again at each reload.
    pub default_file: Option<PathBuf>,
    /// All environment variables; those without our prefix set no key.
    pub environment: BTreeMap<String, String>,
    /// The names of the environment variables whose values are not UTF-8.
    pub not_utf8: BTreeSet<String>,
    /// The folders of the installed unit, for commands that root runs beside it.
    pub unit_folders: UnitFolders,
    /// `--port`.
    pub port: Option<u16>,
    /// `--log-level`.
    pub log_level: Option<String>,
}

/// The folders that systemd makes for the installed unit (`StateDirectory=`, `RuntimeDirectory=`).
/// They are used if the environment names no folder of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFolders {
    /// The state folder; `None` if there is none.
    pub state: Option<PathBuf>,
    /// The runtime folder; `None` if there is none.
    pub runtime: Option<PathBuf>,
}

impl UnitFolders {
    /// The folders of the unit `name` that exist on this machine.
    pub fn find(name: &str) -> Self {
        let existing = |folder: PathBuf| folder.is_dir().then_some(folder);
        UnitFolders {
            // With DynamicUser=yes the first is a symbolic link to the second.
            state: existing(Path::new("/var/lib").join(name))
                .or_else(|| existing(Path::new("/var/lib/private").join(name))),
            runtime: existing(Path::new("/run").join(name)),
        }
    }
}

impl Sources {
    /// The file to read, if there is one.
    pub(super) fn file_to_read(&self) -> Option<&PathBuf> {
        self.file.as_ref().or(self.default_file.as_ref().filter(|file| file.exists()))
    }

    /// The name of the file for errors; `defaults` if there is no file.
    pub(super) fn file_name(&self) -> String {
        self.file_to_read().map_or_else(|| "defaults".into(), |file| file.display().to_string())
    }

    /// The name, for errors, of the source that sets the value of `key`.
    pub(super) fn source_of(&self, key: &str) -> String {
        let variable = variable_of(key);
        match key {
            "listen.port" if self.port.is_some() => "flags".into(),
            "log.level" if self.log_level.is_some() => "flags".into(),
            _ if self.environment.contains_key(&variable) => variable,
            _ => self.file_name(),
        }
    }

    /// The path of the admin socket, if `admin.socket` is `configured`; empty means the default
    /// path, which needs a runtime folder.
    pub(super) fn admin_socket(&self, configured: &str) -> Option<PathBuf> {
        if !configured.is_empty() {
            return Some(configured.into());
        }
        let folder = self
            .folder("RUNTIME_DIRECTORY")
            .or_else(|| self.unit_folders.runtime.clone())
            .or_else(|| self.folder("XDG_RUNTIME_DIR"))?;
        Some(folder.join("admin.sock"))
    }

    /// The path of the admin socket, read without validating the rest of the configuration.
    pub(super) fn admin_socket_unvalidated(&self) -> Option<PathBuf> {
        let in_file = || {
            let table = file::read(self.file_to_read()?).ok()?;
            Some(table.get("admin")?.get("socket")?.as_str()?.to_owned())
        };
        let variable = self.environment.get(&variable_of("admin.socket")).cloned();
        self.admin_socket(&variable.or_else(in_file).unwrap_or_default())
    }

    /// The folder for what outlives the process: `$STATE_DIRECTORY`, else that of the installed
    /// unit for a command of root, else `secure-chat/` in `$XDG_STATE_HOME`, else in `~/.local/state`.
    /// `None` if none of the variables is set.
    pub(super) fn state_folder(&self) -> Option<PathBuf> {
        let named = self.folder("STATE_DIRECTORY").or_else(|| self.unit_folders.state.clone());
        named.or_else(|| {
            let state_home = self.variable("XDG_STATE_HOME").map(PathBuf::from);
            let in_home = || Some(PathBuf::from(self.variable("HOME")?).join(".local/state"));
            Some(state_home.or_else(in_home)?.join("secure-chat"))
        })
    }

    /// The folder that a variable names. systemd may list several, separated by colons; the first
    /// is ours.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(|folders| folders.split(':').next().unwrap_or(folders).into())
    }

    /// A problem for each variable that counts here and is not UTF-8.
    pub(super) fn unreadable_variables(&self) -> impl Iterator<Item = Problem> {
        let home_counts =
            ["STATE_DIRECTORY", "XDG_STATE_HOME"].iter().all(|name| self.variable(name).is_none());
        let counts = move |name: &str| match name {
            "STATE_DIRECTORY" | "RUNTIME_DIRECTORY" | "XDG_STATE_HOME" | "XDG_RUNTIME_DIR" => true,
            "HOME" => home_counts,
            _ => is_key_variable(name),
        };
        self.not_utf8.iter().filter(move |name| counts(name)).map(|name| Problem::Unreadable {
            file: name.clone(),
            reason: "its value is not UTF-8".into(),
        })
    }

    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}
