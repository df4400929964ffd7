//! Validation: turns the raw configuration into the validated one. Checks every value against its
//! range and against the other values, and gathers all problems.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checker::Checker;
use super::error::Problem;
use super::raw::{RawConfig, TlsTable};
use super::sources::Sources;
use super::validated::{
    Admin, Auth, AuthMode, Config, History, Keys, Limits, Listen, Log, LogFormat, LogLevel,
    Shutdown, Store, TlsFiles,
};
use crate::credentials::access_file::ACCESS_FILE;
use crate::credentials::private_file::open_regular;
use crate::policy::access::AccessList;
use crate::policy::ip_network::IpNetwork;

const DAY_SECONDS: u64 = 86_400;
const BILLION: i64 = 1_000_000_000;
/// The smallest bound on the history that makes sense: an empty one has about half of this.
const MIN_HISTORY_BYTES: u64 = 131_072;

/// Validates `raw`. The configuration can be used only if there are no problems.
pub(super) fn validate(raw: &RawConfig, sources: &Sources) -> (Config, Vec<Problem>) {
    let mut checker = Checker { sources, problems: Vec::new() };
    let config = Config {
        listen: checker.listen(raw),
        limits: checker.limits(raw),
        keys: checker.keys(raw),
        auth: checker.auth(raw),
        history: checker.history(raw),
        cluster: checker.cluster(raw),
        log: checker.log(raw),
        admin: checker.admin(raw),
        shutdown: Shutdown {
            grace: checker.seconds("shutdown.grace", &raw.shutdown.grace, 0, 3_600),
        },
        raw: raw.clone(),
    };
    checker.check_consistency(&config);
    (config, checker.problems)
}

impl Checker<'_> {
    fn listen(&mut self, raw: &RawConfig) -> Listen {
        let table = &raw.listen;
        let port = u16::try_from(self.integer("listen.port", table.port, 0, 65_535)).unwrap_or(0);
        let mut addresses = Vec::new();
        for host in table.host.as_slice() {
            match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
                Ok(address) => addresses.push(SocketAddr::new(address, port)),
                Err(_) if host == "localhost" => addresses.push(([127, 0, 0, 1], port).into()),
                Err(_) => self.refuse(
                    "listen.host",
                    host,
                    "must be an IP address, as in \"127.0.0.1\" or \"::\"",
                ),
            }
        }
        if table.host.as_slice().is_empty() {
            self.refuse("listen.host", "[]", "must name at least one address");
        }
        let mut trusted_proxies = Vec::new();
        for text in &table.trusted_proxies {
            match IpNetwork::parse(text) {
                Some(network) => trusted_proxies.push(network),
                None => self.refuse(
                    "listen.trusted_proxies",
                    text,
                    "must be a network, as in \"10.0.0.0/8\"",
                ),
            }
        }
        for origin in &table.origins {
            let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains('/')
            });
            if !is_origin {
                self.refuse(
                    "listen.origins",
                    origin,
                    "must be a whole origin, as in \"https://chat.example\"",
                );
            }
        }
        Listen {
            addresses,
            allow_plaintext: table.allow_plaintext,
            origins: table.origins.clone(),
            trusted_proxies,
            tls: table.tls.as_ref().map(|tls| self.tls(tls)),
        }
    }

    /// That certificate and key belong together is checked when they are loaded.
    fn tls(&mut self, tls: &TlsTable) -> TlsFiles {
        for (key, file) in
            [("listen.tls.certificate", &tls.certificate), ("listen.tls.key", &tls.key)]
        {
            // A reload reads the files again, so they can't be pipes.
            if let Err(error) = open_regular(Path::new(file)) {
                self.refuse(
                    key,
                    file,
                    &format!("must be a PEM file that the server can read ({error})"),
                );
            }
        }
        TlsFiles { certificate: tls.certificate.clone().into(), key: tls.key.clone().into() }
    }

    fn limits(&mut self, raw: &RawConfig) -> Limits {
        let table = &raw.limits;
        Limits {
            connections: self.size("limits.connections", table.connections, 1, 1_000_000),
            connections_per_address: self.size(
                "limits.connections_per_address",
                table.connections_per_address,
                1,
                1_000_000,
            ),
            register_timeout: self.seconds(
                "limits.register_timeout",
                &table.register_timeout,
                1,
                3_600,
            ),
            message_chars: self.size("limits.message_chars", table.message_chars, 1, 1_000_000),
            frame_bytes: self.size("limits.frame_bytes", table.frame_bytes, 1_024, 16 << 20),
            rate_messages: u32::try_from(self.integer(
                "limits.rate_messages",
                table.rate_messages,
                1,
                BILLION,
            ))
            .unwrap_or(1),
            rate_bytes: u64::try_from(self.integer(
                "limits.rate_bytes",
                table.rate_bytes,
                1_024,
                BILLION * 1_000,
            ))
            .unwrap_or(1),
            rate_per: self.millis("limits.rate_per", &table.rate_per, 10, 3_600_000),
            ping_interval: self.millis(
                "limits.ping_interval",
                &table.ping_interval,
                100,
                86_400_000,
            ),
            ping_timeout: self.millis("limits.ping_timeout", &table.ping_timeout, 100, 86_400_000),
            outbound_bytes: self.size(
                "limits.outbound_bytes",
                table.outbound_bytes,
                131_072,
                1 << 30,
            ),
            rooms: self.size("limits.rooms", table.rooms, 1, 10_000_000) as u64,
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
        let rotate_every =
            self.millis("keys.rotate_every", &table.rotate_every, 0, 3_650 * DAY_SECONDS * 1_000);
        if !rotate_every.is_zero() && rotate_every < Duration::from_secs(1) {
            self.refuse(
                "keys.rotate_every",
                &table.rotate_every,
                "must be \"0s\" (never) or at least \"1s\"",
            );
        }
        Keys {
            rotate_every: (!rotate_every.is_zero()).then_some(rotate_every),
            grace: self.seconds("keys.grace", &table.grace, 0, DAY_SECONDS),
        }
    }

    fn auth(&mut self, raw: &RawConfig) -> Auth {
        let mode = match raw.auth.mode.as_str() {
            "open" => AuthMode::Open,
            "token" => AuthMode::Token,
            other => {
                self.refuse("auth.mode", other, "must be \"open\" or \"token\"");
                AuthMode::Token
            }
        };
        let access_file = match raw.auth.access_file.as_str() {
            "" => self.in_state_folder("auth.access_file", ACCESS_FILE),
            path => path.into(),
        };
        let mut users = Vec::new();
        for record in &raw.auth.users {
            let grant =
                record.grant().map_err(|reason| self.refuse("auth.users", &record.user, &reason));
            users.extend(grant.ok());
        }
        if let Err(names) = AccessList::new(users.clone()) {
            self.refuse("auth.users", names.user.as_str(), &names.to_string());
        }
        Auth { mode, allow_open: raw.auth.allow_open, access_file, users }
    }

    fn history(&mut self, raw: &RawConfig) -> History {
        let table = &raw.history;
        let store = match table.store.as_str() {
            "disk" => Store::Disk,
            "memory" => Store::Memory,
            "jetstream" => Store::JetStream,
            other => {
                let allowed = "must be \"disk\", \"memory\" or \"jetstream\"";
                self.refuse("history.store", other, allowed);
                Store::Disk
            }
        };
        let path = match table.path.as_str() {
            "" if store != Store::Disk => PathBuf::new(),
            "" => self.in_state_folder("history.path", "history"),
            path => path.into(),
        };
        let keep_messages =
            self.integer("history.keep_messages", table.keep_messages, 1, 1_000_000_000);
        let max_bytes =
            u64::try_from(self.integer("history.max_bytes", table.max_bytes, 0, i64::MAX));
        let max_bytes = max_bytes.ok().filter(|bytes| *bytes > 0);
        if max_bytes.is_some_and(|bytes| bytes < MIN_HISTORY_BYTES) {
            let allowed = format!("must be 0 (no bound) or at least {MIN_HISTORY_BYTES}");
            self.refuse("history.max_bytes", &table.max_bytes.to_string(), &allowed);
        }
        History {
            store,
            path,
            keep_messages: u64::try_from(keep_messages).unwrap_or(1),
            keep_for: self.seconds("history.keep_for", &table.keep_for, 1, 36_500 * DAY_SECONDS),
            max_bytes,
        }
    }

    /// The default path of a key: `name` in the state folder.
    pub(super) fn in_state_folder(&mut self, key: &str, name: &str) -> PathBuf {
        let folder = self.sources.state_folder();
        if folder.is_none() {
            self.refuse(
                key,
                "",
                "the default is in the state folder, and neither STATE_DIRECTORY nor \
                 XDG_STATE_HOME nor HOME is set; set one of them, or set this key",
            );
        }
        folder.unwrap_or_default().join(name)
    }

    fn log(&mut self, raw: &RawConfig) -> Log {
        let level = LogLevel::parse(&raw.log.level).unwrap_or_else(|| {
            self.refuse(
                "log.level",
                &raw.log.level.to_ascii_lowercase(),
                "must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            );
            LogLevel::Info
        });
        let format = match raw.log.format.as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            other => {
                self.refuse("log.format", other, "must be \"json\" or \"pretty\"");
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
                    self.refuse(
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

    /// Checks keys against each other.
    fn check_consistency(&mut self, config: &Config) {
        let limits = &config.limits;
        // A character takes at most four bytes of UTF-8. A Fernet token takes 4/3 of its padded
        // plaintext and 100 bytes, and the frame around it another 200.
        let min_frame_bytes = limits.message_chars.saturating_mul(4).saturating_mul(4) / 3 + 400;
        if min_frame_bytes > limits.frame_bytes {
            self.refuse(
                "limits.frame_bytes",
                &limits.frame_bytes.to_string(),
                &format!(
                    "must be at least {min_frame_bytes} to hold limits.message_chars = {}",
                    limits.message_chars
                ),
            );
        }
        if limits.outbound_bytes < 2 * limits.frame_bytes {
            self.refuse(
                "limits.outbound_bytes",
                &limits.outbound_bytes.to_string(),
                &format!("must be at least twice limits.frame_bytes ({})", 2 * limits.frame_bytes),
            );
        }
        let public = config.listen.addresses.iter().find(|address| !address.ip().is_loopback());
        if let Some(address) = public
            && config.auth.mode == AuthMode::Open
            && !config.auth.allow_open
        {
            self.refuse(
                "listen.host",
                &address.ip().to_string(),
                "in open mode everyone who connects gets the key, so only loopback is allowed; \
                 listen on 127.0.0.1, or set auth.mode = \"token\", or auth.allow_open = true",
            );
        }
    }
}
