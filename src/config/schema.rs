//! Which keys there are, and of which type. The defaults are the schema: a value must have the type
//! of its default.

use super::error::Problem;
use super::raw::{ClusterTable, ClusterTlsTable, RawConfig, TlsTable};

/// How similar an unknown key must be to a known one to suggest it (Jaro-Winkler, 0 to 1).
const MIN_SIMILARITY: f64 = 0.8;
/// Longest value that an error quotes, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// Every key with its default, the optional tables included.
pub(super) fn schema() -> toml::Table {
    let mut raw = RawConfig::default();
    raw.listen.tls = Some(TlsTable::default());
    let tls = Some(ClusterTlsTable::default());
    raw.cluster = Some(ClusterTable { tls, ..ClusterTable::default() });
    toml::Table::try_from(&raw).expect("the defaults are TOML")
}

/// Reports every unknown key of `given`, and every value of the wrong type. `path` is the key of
/// the table (`listen`; empty at the top), and `set_in` names the source.
pub(super) fn check_keys(
    schema: &toml::Table,
    given: &toml::Table,
    path: &str,
    set_in: &str,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in given {
        let key = join(path, name);
        match (schema.get(name), value) {
            (None, _) => problems.push(unknown_key(set_in, key)),
            (Some(toml::Value::Table(schema)), toml::Value::Table(given)) => {
                check_keys(schema, given, &key, set_in, problems);
            }
            (Some(default), value) if has_type_of(&key, default, value) => {}
            (Some(default), value) => problems.push(wrong_type(set_in, &key, default, value)),
        }
    }
}

/// The problem of a value that does not have the type of its default.
pub(super) fn wrong_type(
    set_in: &str,
    key: &str,
    default: &toml::Value,
    value: &toml::Value,
) -> Problem {
    Problem::Value {
        set_in: set_in.into(),
        key: key.into(),
        value: shorten(value),
        allowed: format!("must be {}", describe_type(key, default)),
    }
}

/// The problem of a key that does not exist, with the most similar key that does.
pub(super) fn unknown_key(set_in: &str, key: String) -> Problem {
    let nearest = all_keys()
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&known, &key), known))
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known);
    Problem::UnknownKey { set_in: set_in.into(), key, nearest }
}

/// Every key, as `table.key`, and the tables themselves.
pub(super) fn all_keys() -> Vec<String> {
    fn collect(table: &toml::Table, path: &str, keys: &mut Vec<String>) {
        for (name, value) in table {
            let key = join(path, name);
            if let toml::Value::Table(inner) = value {
                collect(inner, &key, keys);
            }
            keys.push(key);
        }
    }
    let mut keys = Vec::new();
    collect(&schema(), "", &mut keys);
    keys
}

/// The value of a key, given as `table.key`.
pub(super) fn value_of<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let mut names = key.split('.');
    let first = table.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_table()?.get(name))
}

/// Sets a key, given as `table.key`.
pub(super) fn set_key(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.into(), value)),
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                set_key(inner, rest, value);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn has_type_of(key: &str, default: &toml::Value, value: &toml::Value) -> bool {
    match value {
        toml::Value::Array(array) if key == "auth.users" => array.iter().all(toml::Value::is_table),
        toml::Value::Array(array) => {
            (default.is_array() || key == "listen.host") && array.iter().all(toml::Value::is_str)
        }
        value => default.same_type(value),
    }
}

fn describe_type(key: &str, default: &toml::Value) -> String {
    match default {
        _ if key == "listen.host" => "an address in quotes, or a list of them".into(),
        toml::Value::String(example) => format!("text in quotes, as in \"{example}\""),
        toml::Value::Integer(example) => format!("a whole number, as in {example}"),
        toml::Value::Boolean(_) => "true or false".into(),
        _ if key == "auth.users" => "tables: [[auth.users]] with user, hash, rooms, role".into(),
        toml::Value::Array(_) => "a list of texts in quotes, as in [\"…\"]".into(),
        toml::Value::Table(_) => "a table".into(),
        _ => "a value of another type".into(),
    }
}

fn shorten(value: &toml::Value) -> String {
    let text: String = value.to_string().chars().filter(|c| !c.is_control()).collect();
    if text.chars().count() > MAX_SHOWN_CHARS {
        text.chars().take(MAX_SHOWN_CHARS - 3).chain("...".chars()).collect()
    } else {
        text
    }
}
