//! Environment variables as keys: `CHAT_SERVER_LISTEN__PORT` sets `listen.port`.

use std::collections::BTreeMap;

use super::error::Problem;
use super::schema::{set_key, unknown_key, wrong_type};

/// The prefix of every variable that sets a key; `__` separates table and key.
const PREFIX: &str = "CHAT_SERVER_";
/// Has the prefix, but names the configuration file instead of setting a key.
const FILE_VARIABLE: &str = "CHAT_SERVER_CONFIG";

/// The variable that sets `key`.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The keys that variables set. The schema gives the type of each value, so nothing is guessed: a
/// path of digits stays a path.
pub(super) fn read(
    schema: &toml::Table,
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> toml::Table {
    let mut table = toml::Table::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX).filter(|_| variable != FILE_VARIABLE) else {
            continue;
        };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        match default_of(schema, &key) {
            None | Some(toml::Value::Table(_)) => problems.push(unknown_key(variable, key)),
            Some(default) => match parse(&key, default, text) {
                Some(value) => set_key(&mut table, &key, value),
                None => {
                    let value = toml::Value::String(text.clone());
                    problems.push(wrong_type(variable, &key, default, &value));
                }
            },
        }
    }
    table
}

fn default_of<'a>(schema: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let mut names = key.split('.');
    let first = schema.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_table()?.get(name))
}

fn parse(key: &str, default: &toml::Value, text: &str) -> Option<toml::Value> {
    let list = || {
        let items = text.trim().trim_start_matches('[').trim_end_matches(']').split(',');
        let items = items.map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
        toml::Value::Array(items.map(|item| toml::Value::String(item.into())).collect())
    };
    match default {
        toml::Value::String(_) if key == "listen.host" && text.contains(',') => Some(list()),
        toml::Value::String(_) => Some(toml::Value::String(text.into())),
        toml::Value::Integer(_) => text.trim().parse().ok().map(toml::Value::Integer),
        toml::Value::Boolean(_) => text.trim().parse().ok().map(toml::Value::Boolean),
        toml::Value::Array(_) if key != "auth.users" => Some(list()),
        _ => None,
    }
}
