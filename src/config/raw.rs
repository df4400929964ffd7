//! The configuration as written: what `etc/chat-server.toml` shows, with the same words.

use serde::{Deserialize, Serialize};

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}

table! {
    /// The whole file.
    RawConfig {
        /// `[listen]`
        listen: ListenTable = ListenTable::default(),
        /// `[limits]`
        limits: LimitsTable = LimitsTable::default(),
        /// `[keys]`
        keys: KeysTable = KeysTable::default(),
        /// `[auth]`
        auth: AuthTable = AuthTable::default(),
        /// `[history]`
        history: HistoryTable = HistoryTable::default(),
        /// `[log]`
        log: LogTable = LogTable::default(),
        /// `[admin]`
        admin: AdminTable = AdminTable::default(),
        /// `[shutdown]`
        shutdown: ShutdownTable = ShutdownTable::default(),
    }
}

table! {
    /// Where the server listens, and whom it believes.
    ListenTable {
        /// One address or a list.
        host: OneOrMany = OneOrMany::One("127.0.0.1".into()),
        /// 0: any free port, named in the log.
        port: i64 = 8765,
        /// Whether keys may leave over unencrypted connections from elsewhere.
        allow_plaintext: bool = false,
        /// Browser origins let in beside the server's own.
        origins: Vec<String> = Vec::new(),
        /// Whose `X-Forwarded-For` and `-Proto` are believed.
        trusted_proxies: Vec<String> = vec!["127.0.0.1/32".into(), "::1/128".into()],
        /// Certificate and key; without them the server speaks plain `ws://`.
        tls: Option<TlsTable> = None,
    }
}

table! {
    /// PEM files.
    TlsTable {
        /// The certificate and its chain.
        certificate: String = String::new(),
        /// The private key.
        key: String = String::new(),
    }
}

table! {
    /// What one may take of the server.
    LimitsTable {
        /// Connections in all.
        connections: i64 = 10_000,
        /// Connections from one address (IPv6: one /64).
        connections_per_address: i64 = 1_000,
        /// From the connect to a valid `register`.
        register_timeout: String = "10s".into(),
        /// Unicode characters in a message.
        message_chars: i64 = 4_096,
        /// Bytes of one WebSocket message.
        frame_bytes: i64 = 65_536,
        /// Messages a session may send …
        rate_messages: i64 = 10,
        /// … and bytes, frames of every kind …
        rate_bytes: i64 = 524_288,
        /// … in this time.
        rate_per: String = "2s".into(),
        /// Silence before a ping.
        ping_interval: String = "20s".into(),
        /// How long the answer may take.
        ping_timeout: String = "10s".into(),
        /// Bytes that may wait for one slow reader.
        outbound_bytes: i64 = 1_048_576,
        /// Above this many in a room, join and leave are not announced.
        presence_members: i64 = 200,
    }
}

table! {
    /// Rotation of the rooms' keys.
    KeysTable {
        /// Age of a key at which it is replaced; "0s": never.
        rotate_every: String = "24h".into(),
        /// How long the key before is still accepted.
        grace: String = "5m".into(),
    }
}

table! {
    /// Who may register.
    AuthTable {
        /// "open" or "token".
        mode: String = "open".into(),
        /// Whether open mode may listen on more than loopback.
        allow_open: bool = false,
        /// File of access tokens (hashes) and bans; empty: `access.json` in the state folder.
        access_file: String = String::new(),
        /// Users declared here, with the hash of their access token.
        users: Vec<crate::credentials::access_file::TokenRecord> = Vec::new(),
    }
}

table! {
    /// What is kept.
    HistoryTable {
        /// "disk", "memory" or "jetstream".
        store: String = "disk".into(),
        /// Folder; empty: `history/` in the state folder.
        path: String = String::new(),
        /// Messages a room.
        keep_messages: i64 = 100_000,
        /// Age of a message.
        keep_for: String = "30d".into(),
    }
}

table! {
    /// The log on standard output.
    LogTable {
        /// "error", "warn", "info", "debug" or "trace".
        level: String = "info".into(),
        /// "json" or "pretty".
        format: String = "json".into(),
    }
}

table! {
    /// For operators.
    AdminTable {
        /// Unix socket; empty: `admin.sock` in the runtime folder.
        socket: String = String::new(),
        /// Address of `/metrics`, `/healthz` and `/readyz`; empty: off.
        metrics: String = String::new(),
    }
}

table! {
    /// The end.
    ShutdownTable {
        /// How long draining may take.
        grace: String = "10s".into(),
    }
}

/// One word or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// The shape of every key: the defaults, with the optional table in it.
pub fn shape() -> toml::Table {
    let mut raw = RawConfig::default();
    raw.listen.tls = Some(TlsTable::default());
    toml::Table::try_from(&raw).expect("the defaults are TOML")
}
