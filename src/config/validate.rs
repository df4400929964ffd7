//! From what is written to what is meant: every value is read, held against its range and against
//! the others, and every problem is gathered.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::ip_network::IpNetwork;
use super::raw::RawConfig;
use super::sources::{Sources, first_of};
use super::validated::{
    Admin, Auth, AuthMode, Config, History, Keys, Limits, Listen, Log, LogFormat, LogLevel,
    Shutdown, Store, TlsFiles,
};
use crate::{credentials::access_file::ACCESS_FILE, policy::access::AccessList};

/// Makes sense of what is written; gathers every problem.
pub fn check(raw: &RawConfig, sources: &Sources) -> (Config, Vec<Problem>) {
    let mut reader = Reader { sources, problems: Vec::new() };
    let config = Config {
        listen: reader.listen(raw),
        limits: reader.limits(raw),
        keys: reader.keys(raw),
        auth: reader.auth(raw),
        history: reader.history(raw),
        log: reader.log(raw),
        admin: reader.admin(raw),
        shutdown: Shutdown {
            grace: reader.duration("shutdown.grace", &raw.shutdown.grace, 0, 3_600),
        },
        raw: raw.clone(),
    };
    reader.consistent(&config);
    (config, reader.problems)
}

const DAY: u64 = 86_400;

struct Reader<'a> {
    sources: &'a Sources,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn listen(&mut self, raw: &RawConfig) -> Listen {
        let table = &raw.listen;
        let port = u16::try_from(self.whole("listen.port", table.port, 0, 65_535)).unwrap_or(0);
        let mut addresses = Vec::new();
        for host in table.host.all() {
            match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
                Ok(address) => addresses.push(SocketAddr::new(address, port)),
                Err(_) if host == "localhost" => addresses.push(([127, 0, 0, 1], port).into()),
                Err(_) => self.bad(
                    "listen.host",
                    host,
                    "must be an IP address, as in \"127.0.0.1\" or \"::\"",
                ),
            }
        }
        if table.host.all().is_empty() {
            self.bad("listen.host", "[]", "must name at least one address");
        }
        let mut trusted_proxies = Vec::new();
        for text in &table.trusted_proxies {
            match IpNetwork::parse(text) {
                Some(network) => trusted_proxies.push(network),
                None => self.bad(
                    "listen.trusted_proxies",
                    text,
                    "must be a network, as in \"10.0.0.0/8\"",
                ),
            }
        }
        for origin in &table.origins {
            let whole = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains('/')
            });
            if !whole {
                self.bad(
                    "listen.origins",
                    origin,
                    "must be a whole origin, as in \"https://chat.example\"",
                );
            }
        }
        let tls = table.tls.as_ref().map(|tls| {
            for (key, file) in
                [("listen.tls.certificate", &tls.certificate), ("listen.tls.key", &tls.key)]
            {
                if let Err(error) = std::fs::File::open(file) {
                    self.bad(
                        key,
                        file,
                        &format!("must be a PEM file this server can read ({error})"),
                    );
                }
            }
            TlsFiles { certificate: tls.certificate.clone().into(), key: tls.key.clone().into() }
        });
        Listen {
            addresses,
            allow_plaintext: table.allow_plaintext,
            origins: table.origins.clone(),
            trusted_proxies,
            tls,
        }
    }

    fn limits(&mut self, raw: &RawConfig) -> Limits {
        let table = &raw.limits;
        const BILLION: i64 = 1_000_000_000;
        Limits {
            connections: self.size("limits.connections", table.connections, 1, 1_000_000),
            connections_per_address: self.size(
                "limits.connections_per_address",
                table.connections_per_address,
                1,
                1_000_000,
            ),
            register_timeout: self.duration(
                "limits.register_timeout",
                &table.register_timeout,
                1,
                3_600,
            ),
            message_chars: self.size("limits.message_chars", table.message_chars, 1, 1_000_000),
            frame_bytes: self.size("limits.frame_bytes", table.frame_bytes, 1_024, 16 << 20),
            rate_messages: u32::try_from(self.whole(
                "limits.rate_messages",
                table.rate_messages,
                1,
                BILLION,
            ))
            .unwrap_or(1),
            rate_bytes: u64::try_from(self.whole(
                "limits.rate_bytes",
                table.rate_bytes,
                1_024,
                BILLION * 1_000,
            ))
            .unwrap_or(1),
            rate_per: self.duration_ms("limits.rate_per", &table.rate_per, 10, 3_600_000),
            ping_interval: self.duration_ms(
                "limits.ping_interval",
                &table.ping_interval,
                100,
                86_400_000,
            ),
            ping_timeout: self.duration_ms(
                "limits.ping_timeout",
                &table.ping_timeout,
                100,
                86_400_000,
            ),
            outbound_bytes: self.size(
                "limits.outbound_bytes",
                table.outbound_bytes,
                131_072,
                1 << 30,
            ),
            presence_members: self.size(
                "limits.presence_members",
                table.presence_members,
                0,
                1_000_000,
            ),
        }
    }

    fn keys(&mut self, raw: &RawConfig) -> Keys {
        let table = &raw.keys;
        let every =
            self.duration_ms("keys.rotate_every", &table.rotate_every, 0, 3_650 * DAY * 1_000);
        if !every.is_zero() && every < Duration::from_secs(1) {
            self.bad(
                "keys.rotate_every",
                &table.rotate_every,
                "must be \"0s\" (never) or at least \"1s\"",
            );
        }
        Keys {
            rotate_every: (!every.is_zero()).then_some(every),
            grace: self.duration("keys.grace", &table.grace, 0, DAY),
        }
    }

    fn auth(&mut self, raw: &RawConfig) -> Auth {
        let mode = match raw.auth.mode.as_str() {
            "open" => AuthMode::Open,
            "token" => AuthMode::Token,
            other => {
                self.bad("auth.mode", other, "must be \"open\" or \"token\"");
                AuthMode::Token
            }
        };
        let access_file = match raw.auth.access_file.as_str() {
            "" => self.state_folder().join(ACCESS_FILE),
            path => path.into(),
        };
        let mut users = Vec::new();
        for declared in &raw.auth.users {
            let grant =
                declared.grant().map_err(|why| self.bad("auth.users", &declared.user, &why));
            users.extend(grant.ok());
        }
        if let Err(imitation) = AccessList::new(users.clone(), &[]) {
            self.bad("auth.users", imitation.user.as_str(), &imitation.to_string());
        }
        Auth { mode, allow_open: raw.auth.allow_open, access_file, users }
    }

    fn history(&mut self, raw: &RawConfig) -> History {
        let table = &raw.history;
        let store = match table.store.as_str() {
            "disk" => Store::Disk,
            "memory" => Store::Memory,
            "jetstream" => {
                self.bad(
                    "history.store",
                    "jetstream",
                    "is not in this build; use \"disk\" or \"memory\"",
                );
                Store::Disk
            }
            other => {
                self.bad("history.store", other, "must be \"disk\", \"memory\" or \"jetstream\"");
                Store::Disk
            }
        };
        let path = match table.path.as_str() {
            "" => self.state_folder().join("history"),
            path => path.into(),
        };
        let keep = self.whole("history.keep_messages", table.keep_messages, 1, 1_000_000_000);
        History {
            store,
            path,
            keep_messages: u64::try_from(keep).unwrap_or(1),
            keep_for: self.duration("history.keep_for", &table.keep_for, 1, 36_500 * DAY),
        }
    }

    fn log(&mut self, raw: &RawConfig) -> Log {
        let level = match raw.log.level.to_ascii_lowercase().as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            other => {
                self.bad(
                    "log.level",
                    other,
                    "must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
                );
                LogLevel::Info
            }
        };
        let format = match raw.log.format.as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            other => {
                self.bad("log.format", other, "must be \"json\" or \"pretty\"");
                LogFormat::Json
            }
        };
        Log { level, format }
    }

    fn admin(&mut self, raw: &RawConfig) -> Admin {
        let table = &raw.admin;
        let socket = self.sources.admin_socket(&table.socket);
        let metrics = match table.metrics.as_str() {
            "" => None,
            text => {
                let address = text.parse().ok();
                if address.is_none() {
                    self.bad(
                        "admin.metrics",
                        text,
                        "must be an address and a port, as in \"127.0.0.1:9465\"",
                    );
                }
                address
            }
        };
        Admin { socket, metrics }
    }

    /// What one key says about another.
    fn consistent(&mut self, config: &Config) {
        let limits = &config.limits;
        // A character is at most four bytes of UTF-8; a Fernet token is 4/3 of its padded plaintext
        // and 100 bytes; the frame around it has another 200.
        let token = limits.message_chars.saturating_mul(4).saturating_mul(4) / 3 + 400;
        if token > limits.frame_bytes {
            self.bad(
                "limits.frame_bytes",
                &limits.frame_bytes.to_string(),
                &format!(
                    "must be at least {token} to hold limits.message_chars = {}",
                    limits.message_chars
                ),
            );
        }
        if limits.outbound_bytes < 2 * limits.frame_bytes {
            self.bad(
                "limits.outbound_bytes",
                &limits.outbound_bytes.to_string(),
                &format!("must be at least twice limits.frame_bytes ({})", 2 * limits.frame_bytes),
            );
        }
        let outside = config.listen.addresses.iter().find(|address| !address.ip().is_loopback());
        if let Some(address) = outside
            && config.auth.mode == AuthMode::Open
            && !config.auth.allow_open
        {
            self.bad(
                "listen.host",
                &address.ip().to_string(),
                "in open mode whoever connects gets the key, so only loopback is allowed; \
                 listen on 127.0.0.1, or set auth.mode = \"token\", or auth.allow_open = true",
            );
        }
    }

    fn state_folder(&self) -> PathBuf {
        let variable = |name: &str| {
            self.sources.environment.get(name).filter(|value| !value.is_empty()).cloned()
        };
        if let Some(folder) = variable("STATE_DIRECTORY") {
            return first_of(&folder).into();
        }
        let base = variable("XDG_STATE_HOME").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(variable("HOME").unwrap_or_else(|| ".".into())).join(".local/state")
        });
        base.join("secure-chat")
    }

    fn duration(&mut self, key: &str, text: &str, least: u64, most: u64) -> Duration {
        self.duration_ms(key, text, least * 1_000, most * 1_000)
    }

    fn duration_ms(&mut self, key: &str, text: &str, least: u64, most: u64) -> Duration {
        let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
        match humantime::parse_duration(text) {
            Ok(duration) if (least..=most).contains(&duration) => duration,
            Ok(_) => {
                let range = format!(
                    "must be from {} to {}",
                    humantime::format_duration(least),
                    humantime::format_duration(most)
                );
                self.bad(key, text, &range);
                least
            }
            Err(_) => {
                self.bad(
                    key,
                    text,
                    "must be a number with a unit: \"500ms\", \"10s\", \"5m\", \"24h\", \"30d\"",
                );
                least
            }
        }
    }

    fn size(&mut self, key: &str, value: i64, least: i64, most: i64) -> usize {
        usize::try_from(self.whole(key, value, least, most)).unwrap_or(0)
    }

    fn whole(&mut self, key: &str, value: i64, least: i64, most: i64) -> i64 {
        if !(least..=most).contains(&value) {
            self.bad_raw(key, value.to_string(), format!("must be from {least} to {most}"));
        }
        value.clamp(least, most)
    }

    fn bad(&mut self, key: &str, value: &str, allowed: &str) {
        let value: String = value.chars().filter(|c| !c.is_control()).take(80).collect();
        self.bad_raw(key, format!("\"{value}\""), allowed.to_owned());
    }

    fn bad_raw(&mut self, key: &str, value: String, allowed: String) {
        let place = self.sources.place_of(key);
        self.problems.push(Problem::Value { place, key: key.into(), value, allowed });
    }
}
