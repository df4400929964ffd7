//! Defaults, file, environment and flags, laid over one another by figment.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::{ConfigError, Problem};
use super::raw::{RawConfig, shape};

/// Largest configuration file.
const FILE_BYTES: u64 = 1024 * 1024;
/// What every variable of ours begins with; `__` stands between table and key.
const PREFIX: &str = "CHAT_SERVER_";
/// Names the file and is no key.
const FILE_VARIABLE: &str = "CHAT_SERVER_CONFIG";

/// Where a configuration comes from; the environment is an argument.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Read where no file is named, if it is there; looked for at each reload again.
    pub default_file: Option<PathBuf>,
    /// All variables; those that are not ours are passed over.
    pub environment: BTreeMap<String, String>,
    /// `--port`.
    pub port: Option<u16>,
    /// `--log-level`.
    pub log_level: Option<String>,
}

impl Sources {
    /// What an error calls the place that set a key last.
    pub(super) fn place_of(&self, key: &str) -> String {
        let variable = variable_of(key);
        match key {
            "listen.port" if self.port.is_some() => "flags".into(),
            "log.level" if self.log_level.is_some() => "flags".into(),
            _ if self.environment.contains_key(&variable) => variable,
            _ => self.file_name(),
        }
    }

    /// The admin socket where `named` is what is configured; empty is the default_file one.
    pub(super) fn admin_socket(&self, named: &str) -> Option<PathBuf> {
        if !named.is_empty() {
            return Some(named.into());
        }
        let folders = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"];
        let mut folders = folders.iter().filter_map(|name| self.environment.get(*name));
        let folder = folders.find(|folder| !folder.is_empty())?;
        Some(PathBuf::from(first_of(folder)).join("admin.sock"))
    }

    /// The same where the rest of the configuration may be broken.
    pub(super) fn admin_socket_at_any_rate(&self) -> Option<PathBuf> {
        let of_file = || {
            let file = read_file(self.present()?).ok()?;
            Some(file.get("admin")?.get("socket")?.as_str()?.to_owned())
        };
        let variable = self.environment.get(&variable_of("admin.socket")).cloned();
        self.admin_socket(&variable.or_else(of_file).unwrap_or_default())
    }

    fn present(&self) -> Option<&PathBuf> {
        self.file
            .as_ref()
            .or(self.default_file.as_ref().filter(|default_file| default_file.exists()))
    }

    fn file_name(&self) -> String {
        self.present().map_or_else(|| "defaults".into(), |file| file.display().to_string())
    }
}

/// The variable that sets a key.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// One layer as figment takes it.
struct Layer {
    name: String,
    table: toml::Table,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = match Value::serialize(&self.table)? {
            Value::Dict(_, dict) => dict,
            _ => Dict::new(),
        };
        Ok(Profile::Default.collect(dict))
    }
}

/// Lays all sources over one another.
pub fn merge(sources: &Sources) -> Result<RawConfig, ConfigError> {
    let mut problems = Vec::new();
    let file = match sources.present() {
        None => toml::Table::new(),
        Some(path) => read_file(path).map_err(ConfigError::one)?,
    };
    let known = shape();
    compare(&known, &file, "", &sources.file_name(), &mut problems);
    let environment = from_environment(&known, &sources.environment, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let defaults = toml::Table::try_from(RawConfig::default()).expect("the defaults are TOML");
    let layer = |name: &str, table| Layer { name: name.into(), table };
    Figment::from(layer("defaults", defaults))
        .merge(layer(&sources.file_name(), file))
        .merge(layer("environment", environment))
        .merge(layer("flags", from_flags(sources)))
        .extract()
        .map_err(|error| ConfigError { problems: error.into_iter().map(explain).collect() })
}

fn read_file(path: &PathBuf) -> Result<toml::Table, Problem> {
    let unreadable =
        |reason: String| Problem::Unreadable { file: path.display().to_string(), reason };
    let file = std::fs::File::open(path)
        .map_err(|error| unreadable(format!("can't be opened ({error}); give another --config")))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreadable("is a directory; give a file".into()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(format!("can't be read ({error})")))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(unreadable("is larger than 1 MiB; that is no configuration of this".into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    })?;
    text.parse::<toml::Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let before = &text.as_bytes()[..start];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Problem::Syntax {
            file: path.display().to_string(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
            reason: error.message().replace('\n', "; "),
        }
    })
}

/// Names every key that is unknown and every value of the wrong type.
fn compare(
    known: &toml::Table,
    given: &toml::Table,
    path: &str,
    place: &str,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in given {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (known.get(name), value) {
            (None, _) => problems.push(unknown(place, key)),
            (Some(toml::Value::Table(known)), toml::Value::Table(given)) => {
                compare(known, given, &key, place, problems);
            }
            (Some(expected), value) if fits(&key, expected, value) => {}
            (Some(expected), value) => problems.push(Problem::Value {
                place: place.into(),
                key: key.clone(),
                value: shown(value),
                allowed: format!("must be {}", kind(&key, expected)),
            }),
        }
    }
}

fn fits(key: &str, expected: &toml::Value, value: &toml::Value) -> bool {
    let words = |array: &[toml::Value]| array.iter().all(toml::Value::is_str);
    let tables = |array: &[toml::Value]| array.iter().all(toml::Value::is_table);
    match value {
        toml::Value::Array(array) if key == "auth.users" => tables(array),
        toml::Value::Array(array) => (expected.is_array() || key == "listen.host") && words(array),
        value => expected.same_type(value),
    }
}

fn kind(key: &str, expected: &toml::Value) -> String {
    match expected {
        _ if key == "listen.host" => "an address in quotes, or a list of them".into(),
        toml::Value::String(example) => format!("text in quotes, as in \"{example}\""),
        toml::Value::Integer(example) => format!("a whole number, as in {example}"),
        toml::Value::Boolean(_) => "true or false".into(),
        _ if key == "auth.users" => "tables: [[auth.users]] with user, hash, rooms, role".into(),
        toml::Value::Array(_) => "a list of texts, as in [\"…\"]".into(),
        toml::Value::Table(_) => "a table".into(),
        _ => "something else".into(),
    }
}

fn shown(value: &toml::Value) -> String {
    let text: String = value.to_string().chars().filter(|c| !c.is_control()).collect();
    if text.chars().count() > 60 {
        text.chars().take(57).chain("...".chars()).collect()
    } else {
        text
    }
}

fn unknown(place: &str, key: String) -> Problem {
    let mut names = Vec::new();
    every_key(&shape(), "", &mut names);
    let nearest = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&name, &key), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name);
    Problem::UnknownKey { place: place.into(), key, nearest }
}

/// Every key there is, with the tables they stand in.
pub fn every_key(table: &toml::Table, path: &str, into: &mut Vec<String>) {
    for (name, value) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if let toml::Value::Table(inner) = value {
            every_key(inner, &key, into);
        }
        into.push(key);
    }
}

/// Variables as keys. What the value should be is known, so nothing is guessed: a path made of
/// digits stays a path.
fn from_environment(
    known: &toml::Table,
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> toml::Table {
    let mut result = toml::Table::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX).filter(|_| variable != FILE_VARIABLE) else {
            continue;
        };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let expected =
            key.split('.').try_fold(None, |table: Option<&toml::Value>, name| match table {
                None => known.get(name).map(Some),
                Some(value) => value.as_table()?.get(name).map(Some),
            });
        match expected.flatten() {
            None | Some(toml::Value::Table(_)) => problems.push(unknown(variable, key)),
            Some(expected) => match read_value(&key, expected, text) {
                Some(value) => put(&mut result, &key, value),
                None => problems.push(Problem::Value {
                    place: variable.clone(),
                    key: key.clone(),
                    value: shown(&toml::Value::String(text.clone())),
                    allowed: format!("must be {}", kind(&key, expected)),
                }),
            },
        }
    }
    result
}

fn read_value(key: &str, expected: &toml::Value, text: &str) -> Option<toml::Value> {
    let list = || {
        let words = text.trim().trim_start_matches('[').trim_end_matches(']').split(',');
        let words = words.map(|word| word.trim().trim_matches('"')).filter(|word| !word.is_empty());
        toml::Value::Array(words.map(|word| toml::Value::String(word.into())).collect())
    };
    match expected {
        toml::Value::String(_) if key == "listen.host" && text.contains(',') => Some(list()),
        toml::Value::String(_) => Some(toml::Value::String(text.into())),
        toml::Value::Integer(_) => text.trim().parse().ok().map(toml::Value::Integer),
        toml::Value::Boolean(_) => text.trim().parse().ok().map(toml::Value::Boolean),
        toml::Value::Array(_) if key != "auth.users" => Some(list()),
        _ => None,
    }
}

fn from_flags(sources: &Sources) -> toml::Table {
    let mut table = toml::Table::new();
    if let Some(port) = sources.port {
        put(&mut table, "listen.port", toml::Value::Integer(port.into()));
    }
    if let Some(level) = &sources.log_level {
        put(&mut table, "log.level", toml::Value::String(level.clone()));
    }
    table
}

fn put(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.into(), value)),
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn explain(error: figment::Error) -> Problem {
    Problem::Value {
        place: error
            .metadata
            .as_ref()
            .map_or_else(|| "configuration".into(), |m| m.name.to_string()),
        key: error.path.join("."),
        value: "…".into(),
        allowed: error.kind.to_string(),
    }
}

/// systemd gives several folders with a colon between them; the first is ours.
pub(super) fn first_of(folders: &str) -> &str {
    folders.split(':').next().unwrap_or(folders)
}
