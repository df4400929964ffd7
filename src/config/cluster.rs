//! Validation of `[cluster]`.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::checker::Checker;
use super::raw::{ClusterTable, ClusterTlsTable, RawConfig};
use super::validated::{Cluster, ClusterTls, Durability};
use crate::credentials::cluster_secret::SECRET_FILE;
use crate::credentials::private_file::open_regular;

/// The most streams; the number of slots that rooms are distributed over.
const MAX_STREAMS: i64 = 256;
/// The most characters of a prefix.
const MAX_PREFIX_CHARS: usize = 32;
/// The most characters per message: four bytes each, and the engine takes 1 MiB per message by default.
const MAX_MESSAGE_CHARS: i64 = 250_000;
/// The replicas without which the loss of one server loses messages.
const MIN_REPLICAS: i64 = 3;
const DEFAULT_PORT: u16 = 4222;
const JETSTREAM: &str = "jetstream";

impl Checker<'_> {
    /// `None` if the store needs no cluster, or if there is no usable one.
    pub(super) fn cluster(&mut self, raw: &RawConfig) -> Option<Cluster> {
        let Some(table) = &raw.cluster else {
            if raw.history.store == JETSTREAM {
                self.refuse(
                    "history.store",
                    JETSTREAM,
                    "needs [cluster]: set cluster.servers to the addresses of NATS servers with \
                     JetStream, as in [\"nats://10.0.0.1:4222\"], and put the same secret into \
                     cluster.key on every node",
                );
            }
            return None;
        };
        if raw.history.store != JETSTREAM {
            self.refuse(
                "history.store",
                &raw.history.store,
                "the configuration has [cluster], which this store does not use: set \
                 history.store = \"jetstream\", or remove [cluster]",
            );
            return None;
        }
        self.refuse_limits(raw);
        let replicas = self.integer("cluster.replicas", table.replicas, 1, 5);
        let durability = self.durability(table, replicas);
        let streams = self.integer("cluster.streams", table.streams, 1, MAX_STREAMS);
        if streams.count_ones() != 1 {
            let allowed = "must be a power of two from 1 to 256";
            self.refuse("cluster.streams", &streams.to_string(), allowed);
        }
        Some(Cluster {
            servers: self.servers(&table.servers),
            credentials: self.file("cluster.credentials", &table.credentials),
            tls: table.tls.as_ref().map(|tls| self.cluster_tls(tls)),
            key: self.secret(&table.key),
            key_is_named: !table.key.is_empty(),
            accepted_key: self.file("cluster.accepted_key", &table.accepted_key),
            prefix: self.prefix(&table.prefix),
            streams: u16::try_from(streams).unwrap_or(1),
            replicas: u8::try_from(replicas).unwrap_or(1),
            durability,
            monitor: self.monitor(&table.monitor),
            node: self.node(&table.node),
            start_timeout: self.seconds("cluster.start_timeout", &table.start_timeout, 1, 3_600),
        })
    }

    fn refuse_limits(&mut self, raw: &RawConfig) {
        if raw.history.max_bytes != 0 {
            self.refuse(
                "history.max_bytes",
                &raw.history.max_bytes.to_string(),
                "must be 0 with history.store = \"jetstream\": ids are kept with the messages, so \
                 nothing younger than 25 h may be removed; limit the engine's account instead",
            );
        }
        if !raw.history.path.is_empty() {
            self.refuse(
                "history.path",
                &raw.history.path,
                "must be empty with history.store = \"jetstream\": the history is at the engine",
            );
        }
        if raw.limits.message_chars > MAX_MESSAGE_CHARS {
            self.refuse(
                "limits.message_chars",
                &raw.limits.message_chars.to_string(),
                &format!(
                    "must be at most {MAX_MESSAGE_CHARS} with history.store = \"jetstream\", which \
                     takes 1 MiB per message"
                ),
            );
        }
    }

    fn durability(&mut self, table: &ClusterTable, replicas: i64) -> Durability {
        let durability = match table.durability.as_str() {
            "strict" => Durability::Strict,
            "declared" => Durability::Declared,
            "relaxed" => Durability::Relaxed,
            other => {
                let allowed = "must be \"strict\", \"declared\" or \"relaxed\"";
                self.refuse("cluster.durability", other, allowed);
                Durability::Strict
            }
        };
        if durability != Durability::Relaxed && replicas < MIN_REPLICAS {
            self.refuse(
                "cluster.replicas",
                &replicas.to_string(),
                "must be at least 3, or an acked message is lost with its server; to run without \
                 that promise, set cluster.durability = \"relaxed\"",
            );
        }
        if durability == Durability::Strict && table.monitor.is_empty() {
            self.refuse(
                "cluster.monitor",
                "[]",
                "must name the monitoring of every server of the engine, as in \
                 [\"http://10.0.0.1:8222\"], so that the start can see that each message is synced \
                 (sync_interval: always); or set cluster.durability = \"declared\" if you made sure \
                 of that yourself",
            );
        }
        durability
    }

    fn servers(&mut self, texts: &[String]) -> Vec<String> {
        const ALLOWED: &str = "must be an address, as in \"nats://10.0.0.1:4222\" or \
                               \"tls://nats.example:4222\"; credentials belong in \
                               cluster.credentials";
        if texts.is_empty() {
            self.refuse("cluster.servers", "[]", "must name at least one NATS server");
        }
        let mut servers = Vec::new();
        for text in texts {
            let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
            let known = matches!(scheme, "nats" | "tls");
            match host_and_port(rest, DEFAULT_PORT).filter(|_| known) {
                Some(address) => servers.push(format!("{scheme}://{address}")),
                // A password may be in it, so it is not shown.
                None if text.contains('@') => self.refuse("cluster.servers", "…@…", ALLOWED),
                None => self.refuse("cluster.servers", text, ALLOWED),
            }
        }
        servers
    }

    fn monitor(&mut self, texts: &[String]) -> Vec<String> {
        let mut addresses = Vec::new();
        for text in texts {
            let rest = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
            match rest.and_then(|rest| host_and_port(rest, 8222)) {
                Some(address) => addresses.push(address),
                None => self.refuse(
                    "cluster.monitor",
                    text,
                    "must be the address of a server's monitoring, as in \"http://10.0.0.1:8222\"",
                ),
            }
        }
        addresses
    }

    fn cluster_tls(&mut self, table: &ClusterTlsTable) -> ClusterTls {
        // Otherwise the start would wait for an engine that it can never reach.
        let ca = self.pem::<CertificateDer<'_>>("cluster.tls.ca", &table.ca);
        let certificate =
            self.pem::<CertificateDer<'_>>("cluster.tls.certificate", &table.certificate);
        let key = self.pem::<PrivateKeyDer<'_>>("cluster.tls.key", &table.key);
        let is_pair = table.certificate.is_empty() == table.key.is_empty();
        if !is_pair {
            self.refuse(
                "cluster.tls.key",
                &table.key,
                "must be set together with cluster.tls.certificate",
            );
        }
        ClusterTls { ca, identity: certificate.zip(key) }
    }

    /// The same for a file that has such a part in PEM.
    fn pem<T: PemObject>(&mut self, key: &str, path: &str) -> Option<PathBuf> {
        let refused = self.problems.len();
        let file = self.file(key, path)?;
        if self.problems.len() == refused && T::from_pem_file(&file).is_err() {
            let what = if key.ends_with("key") { "private key" } else { "certificate" };
            self.refuse(key, path, &format!("must be a file with a {what} in PEM"));
        }
        Some(file)
    }

    /// A file that the server can read; `None` if the key is empty.
    fn file(&mut self, key: &str, path: &str) -> Option<PathBuf> {
        if path.is_empty() {
            return None;
        }
        if let Err(error) = open_regular(Path::new(path)) {
            let allowed = format!("must be a file that the server can read ({error})");
            self.refuse(key, path, &allowed);
        }
        Some(path.into())
    }

    fn secret(&mut self, path: &str) -> PathBuf {
        match path {
            "" => self.in_state_folder("cluster.key", SECRET_FILE),
            path => path.into(),
        }
    }

    fn prefix(&mut self, prefix: &str) -> String {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let length = 1..=MAX_PREFIX_CHARS;
        if !prefix.chars().all(is_allowed) || !length.contains(&prefix.len()) {
            self.refuse(
                "cluster.prefix",
                prefix,
                "must be 1 to 32 characters: a to z, 0 to 9, and -",
            );
        }
        prefix.to_owned()
    }

    fn node(&mut self, name: &str) -> String {
        let is_allowed = |c: char| c.is_ascii_graphic();
        if !name.chars().all(is_allowed) || name.len() > 64 {
            let allowed = "must have at most 64 printable ASCII characters, without spaces";
            self.refuse("cluster.node", name, allowed);
        }
        match name {
            "" => host_name(),
            name => name.to_owned(),
        }
    }
}

/// The name of this machine, as the kernel knows it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "chat-server".to_owned() } else { name }
}

/// `host:port`, `host`, `[::1]:port` or `[::1]`, with its port.
fn host_and_port(text: &str, default: u16) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
    if text.is_empty() || !text.chars().all(is_allowed) {
        return None;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default),
    };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    let is_name = !host.is_empty() && !host.contains(['[', ']', ':']);
    (is_v6 || is_name).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused() {
        let complete = |text| host_and_port(text, 4222);
        assert_eq!(complete("10.0.0.1").as_deref(), Some("10.0.0.1:4222"));
        assert_eq!(complete("nats.example:5222").as_deref(), Some("nats.example:5222"));
        assert_eq!(complete("[::1]").as_deref(), Some("[::1]:4222"));
        assert_eq!(complete("[::1]:5222").as_deref(), Some("[::1]:5222"));
        for text in ["", ":4222", "a:b", "a:99999", "user:word@host:4222", "::1", "a/b", "a b"] {
            assert_eq!(complete(text), None, "{text}");
        }
    }
}
