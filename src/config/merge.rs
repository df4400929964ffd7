//! Merges defaults, file, environment and flags into one raw configuration, with figment.

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::{ConfigError, Problem};
use super::raw::RawConfig;
use super::schema::{check_keys, schema, set_key, value_of};
use super::sources::Sources;
use super::{environment, file};

/// Reads all sources and merges them. Reports unknown keys and wrong types; values are validated
/// later.
pub(super) fn merge(sources: &Sources) -> Result<RawConfig, ConfigError> {
    let file = match sources.file_to_read() {
        None => toml::Table::new(),
        Some(path) => file::read(path).map_err(ConfigError::one)?,
    };
    let schema = schema();
    let mut problems = Vec::new();
    check_keys(&schema, &file, "", &sources.file_name(), &mut problems);
    let environment = environment::read(&schema, &sources.environment, &mut problems);
    problems.extend(sources.unreadable_variables());
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let mut defaults = toml::Table::try_from(RawConfig::default()).expect("the defaults are TOML");
    for given in [&file, &environment] {
        add_optional(&mut defaults, &schema, given, "cluster");
        add_optional(&mut defaults, &schema, given, "cluster.tls");
    }
    let layer = |name: &str, table| Layer { name: name.into(), table };
    Figment::from(layer("defaults", defaults))
        .merge(layer(&sources.file_name(), file))
        .merge(layer("environment", environment))
        .merge(layer("flags", from_flags(sources)))
        .extract()
        .map_err(|error| ConfigError { problems: error.into_iter().map(to_problem).collect() })
}

/// Adds the defaults of an optional table, but not those of the tables in it, if a source has the table.
fn add_optional(defaults: &mut toml::Table, schema: &toml::Table, given: &toml::Table, key: &str) {
    let has_none = value_of(defaults, key).is_none();
    if let Some(toml::Value::Table(table)) = value_of(schema, key)
        && value_of(given, key).is_some()
        && has_none
    {
        let plain = table.iter().filter(|(_, value)| !value.is_table());
        let plain = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
        set_key(defaults, key, toml::Value::Table(plain));
    }
}

/// One source for figment.
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

fn from_flags(sources: &Sources) -> toml::Table {
    let mut table = toml::Table::new();
    if let Some(port) = sources.port {
        set_key(&mut table, "listen.port", toml::Value::Integer(port.into()));
    }
    if let Some(level) = &sources.log_level {
        set_key(&mut table, "log.level", toml::Value::String(level.clone()));
    }
    table
}

fn to_problem(error: figment::Error) -> Problem {
    Problem::Value {
        set_in: error
            .metadata
            .as_ref()
            .map_or_else(|| "configuration".into(), |metadata| metadata.name.to_string()),
        key: error.path.join("."),
        value: "…".into(),
        allowed: error.kind.to_string(),
    }
}
