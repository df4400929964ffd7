//! Environment variables as keys: `CHAT_SERVER_LISTEN__PORT` sets `listen.port`.
//!
//! A variable sets a key if `__` separates table and key in its name. Other variables with the prefix are
//! ignored, because Kubernetes and `docker --link` set such variables for a service called chat-server.
//! A variable that names a key with `_` in place of `__` is an error, because it was meant to set the key.

use std::collections::BTreeMap;

use super::error::Problem;
use super::schema::{all_keys, schema, set_key, unknown_key, value_of, wrong_type};

/// The prefix of every variable that sets a key.
const PREFIX: &str = "CHAT_SERVER_";
/// Separates table and key.
const SEPARATOR: &str = "__";
/// What the variables of `docker --link` and of Kubernetes' service links have after the name of the
/// service. They may contain [`SEPARATOR`], because they repeat variables of another container, or names
/// of ports or services.
const LINKS: [&str; 3] = ["ENV_", "PORT_", "SERVICE_"];

/// The variable that sets `key`.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', SEPARATOR).to_ascii_uppercase())
}

/// Whether a variable is meant to set a key.
pub(super) fn is_key_variable(variable: &str) -> bool {
    variable
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.contains(SEPARATOR) && !is_link(&schema(), rest))
}

/// Whether a variable is a link to this service, or to one whose name begins with that of this one.
/// `rest` follows the prefix.
fn is_link(schema: &toml::Table, rest: &str) -> bool {
    let table = rest.split(SEPARATOR).next().unwrap_or_default().to_ascii_lowercase();
    let names_table = schema.get(&table).is_some_and(toml::Value::is_table);
    let of_other = |link: &str| rest.contains(&format!("_{link}"));
    !names_table && LINKS.iter().any(|link| rest.starts_with(link) || of_other(link))
}

/// The keys that variables set; an empty variable sets none. The schema gives the type of each value, so nothing is guessed: a
/// path of digits stays a path.
pub(super) fn read(
    schema: &toml::Table,
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> toml::Table {
    let mut table = toml::Table::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        if text.is_empty() || is_link(schema, rest) {
            continue;
        }
        if !rest.contains(SEPARATOR) {
            problems.extend(misspelt(variable, text));
            continue;
        }
        let key = rest.to_ascii_lowercase().replace(SEPARATOR, ".");
        match value_of(schema, &key) {
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

/// The problem of a variable that names a key, except that `_` stands for the separator. A link to a
/// service called chat-server-listen has such a name too, but its value is a URL.
fn misspelt(variable: &str, text: &str) -> Option<Problem> {
    let is_meant = |key: &String| variable_of(key).replace(SEPARATOR, "_") == variable;
    let key = all_keys().into_iter().find(is_meant).filter(|key| key.contains('.'))?;
    (!text.contains("://")).then(|| Problem::UnknownKey {
        set_in: variable.into(),
        key: variable[PREFIX.len()..].to_ascii_lowercase(),
        nearest: Some(variable_of(&key)),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(variables: &[(&str, &str)]) -> Vec<String> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut problems = Vec::new();
        let table = read(&schema(), &variables.collect(), &mut problems);
        assert!(table.is_empty(), "{table}");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn variables_of_service_links_are_ignored() {
        let links = [
            ("CHAT_SERVER_PORT", "tcp://10.0.0.1:8765"),
            ("CHAT_SERVER_PORT_8765_TCP", "tcp://10.0.0.1:8765"),
            ("CHAT_SERVER_PORT_8765_TCP_ADDR", "10.0.0.1"),
            ("CHAT_SERVER_PORT_8765_TCP_PORT", "8765"),
            ("CHAT_SERVER_PORT_8765_TCP_PROTO", "tcp"),
            ("CHAT_SERVER_SERVICE_HOST", "10.0.0.1"),
            ("CHAT_SERVER_SERVICE_PORT", "8765"),
            ("CHAT_SERVER_SERVICE_PORT_CHAT", "8765"),
            ("CHAT_SERVER_SERVICE_PORT_A__B", "8765"),
            ("CHAT_SERVER_NAME", "/x/chat-server"),
            ("CHAT_SERVER_ENV_PATH", "/bin"),
            ("CHAT_SERVER_ENV_CHAT_SERVER_LISTEN__PORT", "1"),
            // Of a second service, called chat-server-listen.
            ("CHAT_SERVER_LISTEN_PORT", "tcp://10.0.0.2:8765"),
            ("CHAT_SERVER_LISTEN_SERVICE_HOST", "10.0.0.2"),
            // Of services called chat-server-log and chat-server-a--b.
            ("CHAT_SERVER_LOG_ENV_A__B", "1"),
            ("CHAT_SERVER_A__B_SERVICE_HOST", "10.0.0.2"),
            ("CHAT_SERVER_A__B_PORT_80_TCP", "tcp://10.0.0.2:80"),
            // Set, but empty.
            ("CHAT_SERVER_LISTEN__PORT", ""),
            ("CHAT_SERVER_AUTH__MODE", ""),
            ("CHAT_SERVER_CONFIG", "/etc/x.toml"),
        ];
        assert_eq!(problems_of(&links), [""; 0]);
    }

    #[test]
    fn a_misspelt_variable_is_an_error_that_names_it() {
        for (variable, words) in [
            ("CHAT_SERVER_LISTEN__PROT", &["listen.prot", "listen.port"][..]),
            ("CHAT_SERVER_LISTN__PORT", &["listn.port", "listen.port"]),
            ("CHAT_SERVER_LISTEN_PORT", &["CHAT_SERVER_LISTEN__PORT"]),
            ("CHAT_SERVER_LOG_LEVEL", &["CHAT_SERVER_LOG__LEVEL"]),
            ("CHAT_SERVER_LISTEN_TLS_KEY", &["CHAT_SERVER_LISTEN__TLS__KEY"]),
            ("CHAT_SERVER_LISTEN__TLS_KEY", &["listen.tls_key", "listen.tls.key"]),
        ] {
            let problems = problems_of(&[(variable, "9000")]);
            assert!(problems.len() == 1 && problems[0].starts_with(variable), "{problems:?}");
            for word in words {
                assert!(problems[0].contains(word), "{problems:?}");
            }
        }
    }
}
