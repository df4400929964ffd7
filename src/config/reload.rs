//! Which keys a reload puts in force, and which ones take effect at the next start.

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use super::error::{ConfigError, Problem};
use super::raw::RawConfig;
use super::schema::{all_keys, schema, value_of};
use super::sources::Sources;
use super::validate;
use super::validated::Config;

/// A configuration that was read again while the server runs.
pub struct Reloaded {
    /// The configuration to put in force. Keys that only a start applies have the values with which
    /// the server runs.
    pub config: Config,
    /// The configuration of the next start.
    pub next: Config,
    /// The keys in force whose value is another than at the start.
    pub changed: Vec<String>,
    /// The keys whose new value takes effect at the next start.
    pub restart_needed: Vec<String>,
}

impl Config {
    /// Reads and validates all sources again. `started` is the configuration of the start.
    ///
    /// Both configurations must be valid: that of the next start, and that which the reload puts in force,
    /// in which some keys keep their values.
    pub fn reload(sources: &Sources, started: &Config) -> Result<Reloaded, ConfigError> {
        refuse_pipe(sources)?;
        let next = Config::load(sources)?;
        let now = with_start_values(&next.raw, &started.raw);
        let (config, problems) = validate::validate(&now, sources);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let changed = differences(&started.raw, &now);
        let restart_needed = differences(&now, &next.raw);
        Ok(Reloaded { config, next, changed, restart_needed })
    }
}

/// A pipe can be read once, at the start: a second time, it is empty or takes for ever.
fn refuse_pipe(sources: &Sources) -> Result<(), ConfigError> {
    let files = sources.file.iter().chain(&sources.default_file);
    let is_pipe = |file: &&PathBuf| file.metadata().is_ok_and(|found| found.file_type().is_fifo());
    match files.into_iter().find(is_pipe) {
        None => Ok(()),
        Some(file) => Err(ConfigError {
            problems: vec![Problem::Unreadable {
                file: file.display().to_string(),
                reason: "is a pipe, which can't be read again; restart the server".into(),
            }],
        }),
    }
}

/// `next`, but with the values of `started` for the keys that only a start applies.
fn with_start_values(next: &RawConfig, started: &RawConfig) -> RawConfig {
    let mut now = next.clone();
    now.listen.host = started.listen.host.clone();
    now.listen.port = started.listen.port;
    // The files are read again at a reload, but a listener stays with or without TLS.
    if next.listen.tls.is_some() != started.listen.tls.is_some() {
        now.listen.tls = started.listen.tls.clone();
    }
    now.history.store = started.history.store.clone();
    now.history.path = started.history.path.clone();
    now.cluster = started.cluster.clone();
    // The streams of the engine keep messages as long as at the start; a start checks whether it is enough.
    let lasts = |raw: &RawConfig| humantime::parse_duration(&raw.history.keep_for).ok();
    if started.history.store == "jetstream" && lasts(next) > lasts(started) {
        now.history.keep_for = started.history.keep_for.clone();
    }
    now.auth.access_file = started.auth.access_file.clone();
    now.log.format = started.log.format.clone();
    now.admin = started.admin.clone();
    now
}

/// The keys whose values differ.
fn differences(a: &RawConfig, b: &RawConfig) -> Vec<String> {
    let table = |raw| toml::Table::try_from(raw).expect("a raw configuration is TOML");
    let (a, b) = (table(a), table(b));
    let differs = |key: &String| value_of(&a, key) != value_of(&b, key);
    let schema = schema();
    let is_table = |key: &String| value_of(&schema, key).is_some_and(toml::Value::is_table);
    all_keys().into_iter().filter(|key| !is_table(key) && differs(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::raw::TlsTable;
    use super::*;

    const EXAMPLE: &str = include_str!("../../etc/chat-server.toml");

    #[test]
    fn a_cluster_keeps_messages_longer_only_after_a_start() {
        let raw = |store: &str, keep_for: &str| {
            let mut raw = RawConfig::default();
            (raw.history.store, raw.history.keep_for) = (store.into(), keep_for.into());
            raw
        };
        for (store, next, now) in [
            ("jetstream", "60d", "30d"),
            ("jetstream", "720h", "720h"),
            ("jetstream", "7d", "7d"),
            ("disk", "60d", "60d"),
        ] {
            let values = with_start_values(&raw(store, next), &raw(store, "30d"));
            assert_eq!(values.history.keep_for, now, "{store}, {next}");
        }
    }

    /// The keys of the example file whose comment ends with `(start)`.
    fn keys_marked_in_the_example() -> Vec<String> {
        let (mut table, mut marked, mut keys) = (String::new(), false, Vec::new());
        for line in EXAMPLE.lines() {
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']').to_owned();
            } else if let Some((name, _)) =
                line.split_once(" = ").filter(|_| !line.starts_with('#'))
            {
                if std::mem::take(&mut marked) {
                    keys.push(format!("{table}.{name}"));
                }
            } else if line.starts_with('#') {
                marked = line.ends_with("(start)");
            }
        }
        keys
    }

    #[test]
    fn the_keys_that_need_a_restart_are_those_marked_in_the_example() {
        let started = RawConfig::default();
        let mut table = toml::Table::try_from(&started).unwrap();
        // Every key has another value.
        for (_, tables) in table.iter_mut() {
            for (_, value) in tables.as_table_mut().unwrap().iter_mut() {
                *value = match value {
                    toml::Value::String(text) => format!("{text}x").into(),
                    toml::Value::Integer(number) => (*number + 1).into(),
                    toml::Value::Boolean(flag) => (!*flag).into(),
                    _ => toml::Value::Array(Vec::new()),
                };
            }
        }
        let next: RawConfig = table.try_into().unwrap();
        let now = with_start_values(&next, &started);
        let (mut waiting, mut marked) = (differences(&now, &next), keys_marked_in_the_example());
        waiting.sort();
        marked.sort();
        assert_eq!(waiting, marked);
        let all = differences(&started, &next).len();
        assert_eq!(differences(&started, &now).len() + differences(&now, &next).len(), all);
    }

    #[test]
    fn tls_files_are_in_force_but_tls_is_not_turned_on_or_off() {
        let plain = RawConfig::default();
        let mut secured = plain.clone();
        secured.listen.tls = Some(TlsTable { certificate: "c".into(), key: "k".into() });
        let mut renewed = secured.clone();
        renewed.listen.tls = Some(TlsTable { certificate: "d".into(), key: "k".into() });
        assert_eq!(with_start_values(&renewed, &secured), renewed);
        assert_eq!(with_start_values(&secured, &plain), plain);
        assert_eq!(with_start_values(&plain, &secured), secured);
        let both = ["listen.tls.certificate", "listen.tls.key"];
        assert_eq!(differences(&plain, &secured), both);
        assert_eq!(differences(&secured, &renewed), both[..1]);
    }
}
