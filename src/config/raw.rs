//! The raw configuration: one struct per table of `etc/chat-server.toml`, with the same keys and
//! every default.

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
        /// `[cluster]`; required by `history.store = "jetstream"`, and refused without it.
        cluster: Option<ClusterTable> = None,
        /// `[log]`
        log: LogTable = LogTable::default(),
        /// `[admin]`
        admin: AdminTable = AdminTable::default(),
        /// `[shutdown]`
        shutdown: ShutdownTable = ShutdownTable::default(),
    }
}

table! {
    /// Where the server listens, and which proxies and origins it trusts.
    ListenTable {
        /// One address or a list.
        host: OneOrMany = OneOrMany::One("127.0.0.1".into()),
        /// 0 is any free port; the server log names it.
        port: i64 = 8765,
        /// Whether the server may send keys over unencrypted connections from other machines.
        allow_plaintext: bool = false,
        /// Browser origins that may connect; the server's own always may.
        origins: Vec<String> = Vec::new(),
        /// Networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
        trusted_proxies: Vec<String> = vec!["127.0.0.1/32".into(), "::1/128".into()],
        /// Certificate and key; without them the server listens on plain `ws://`.
        tls: Option<TlsTable> = None,
    }
}

table! {
    /// PEM files for TLS.
    TlsTable {
        /// The certificate chain.
        certificate: String = String::new(),
        /// The private key.
        key: String = String::new(),
    }
}

table! {
    /// Limits on clients.
    LimitsTable {
        /// Connections in total.
        connections: i64 = 10_000,
        /// Connections per address (IPv6: per /64).
        connections_per_address: i64 = 1_000,
        /// Time from the TCP connect to a valid `register`.
        register_timeout: String = "10s".into(),
        /// Unicode characters per message.
        message_chars: i64 = 4_096,
        /// Bytes per WebSocket message.
        frame_bytes: i64 = 65_536,
        /// Messages a session may send per `rate_per`.
        rate_messages: i64 = 10,
        /// Bytes a session may send per `rate_per`, in frames of every kind.
        rate_bytes: i64 = 524_288,
        /// The period of `rate_messages` and `rate_bytes`.
        rate_per: String = "2s".into(),
        /// Time without a frame from the client before the server pings it.
        ping_interval: String = "20s".into(),
        /// Time until a ping must be answered.
        ping_timeout: String = "10s".into(),
        /// Bytes that the send queue of a session may hold.
        outbound_bytes: i64 = 1_048_576,
        /// Rooms that exist.
        rooms: i64 = 100_000,
        /// Rooms with more members do not announce joins and leaves.
        presence_members: i64 = 200,
    }
}

table! {
    /// Rotation of the room keys.
    KeysTable {
        /// Age at which a room key is replaced; "0s" is never.
        rotate_every: String = "24h".into(),
        /// How long the previous key is still accepted.
        grace: String = "5m".into(),
    }
}

table! {
    /// The users who may register.
    AuthTable {
        /// "open" or "token".
        mode: String = "open".into(),
        /// Whether the server may listen on more than loopback in open mode.
        allow_open: bool = false,
        /// The access file (hashes of access tokens, and bans); empty is `access.json` in the state
        /// folder.
        access_file: String = String::new(),
        /// Users declared in the configuration, with the hash of their access token.
        users: Vec<crate::credentials::access_file::TokenRecord> = Vec::new(),
    }
}

table! {
    /// Storage and retention of the history.
    HistoryTable {
        /// "disk", "memory" or "jetstream".
        store: String = "disk".into(),
        /// Folder of the store; empty is `history/` in the state folder.
        path: String = String::new(),
        /// Messages retained per room.
        keep_messages: i64 = 100_000,
        /// Age up to which a message is retained.
        keep_for: String = "30d".into(),
        /// Bytes of the whole history; 0 is no bound.
        max_bytes: i64 = 0,
    }
}

table! {
    /// The NATS JetStream that several servers share.
    ClusterTable {
        /// Addresses: `nats://host:port`, `tls://host:port`, or `host:port`.
        servers: Vec<String> = Vec::new(),
        /// File with credentials; empty is the systemd credential `cluster.creds`, if there is one.
        credentials: String = String::new(),
        /// TLS to the engine.
        tls: Option<ClusterTlsTable> = None,
        /// The cluster secret; empty is the systemd credential `cluster.key`, else `cluster.key` in the state
        /// folder.
        key: String = String::new(),
        /// A second secret that is accepted, while the secret is changed; empty is the systemd credential
        /// `cluster.accepted.key`, if there is one.
        accepted_key: String = String::new(),
        /// Begins the names of all streams and subjects.
        prefix: String = "chat".into(),
        /// How many streams the messages are distributed over.
        streams: i64 = 4,
        /// Copies of each stream.
        replicas: i64 = 3,
        /// "strict", "declared" or "relaxed".
        durability: String = "strict".into(),
        /// Addresses of the monitoring of each server of the engine.
        monitor: Vec<String> = Vec::new(),
        /// The name of this server at the engine; empty is the name of the machine.
        node: String = String::new(),
        /// How long a start waits for the engine.
        start_timeout: String = "60s".into(),
    }
}

table! {
    /// PEM files for TLS to the engine.
    ClusterTlsTable {
        /// The authority that signed the engine's certificates; empty trusts the system's authorities.
        ca: String = String::new(),
        /// This server's certificate chain, if the engine asks for one.
        certificate: String = String::new(),
        /// Its private key.
        key: String = String::new(),
    }
}

table! {
    /// The server log on standard output.
    LogTable {
        /// "error", "warn", "info", "debug" or "trace".
        level: String = "info".into(),
        /// "json" or "pretty".
        format: String = "json".into(),
    }
}

table! {
    /// Access for operators.
    AdminTable {
        /// Path of the admin socket; empty is `admin.sock` in the runtime folder.
        socket: String = String::new(),
        /// Address of `/metrics`, `/healthz` and `/readyz`; empty is off.
        metrics: String = String::new(),
    }
}

table! {
    /// Shutdown.
    ShutdownTable {
        /// How long draining may take.
        grace: String = "10s".into(),
    }
}

/// One text or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `host = "127.0.0.1"`
    One(String),
    /// `host = ["127.0.0.1", "::1"]`
    Many(Vec<String>),
}

impl OneOrMany {
    /// The texts, one or many.
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(text) => std::slice::from_ref(text),
            OneOrMany::Many(texts) => texts,
        }
    }
}
