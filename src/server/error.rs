//! Every way in which a command of `chat-server` can fail, and the exit code of each.
//!
//! `commands::main` is the one place that prints these errors.

use std::io;
use std::net::SocketAddr;

use super::exit_code::ExitCode;
use crate::config::ConfigError;
use crate::credentials::access_file::AccessFileError;
use crate::credentials::at_rest_key::KeyFileError;
use crate::credentials::cluster_secret::SecretError;
use crate::crypto::age_file::AgeError;
use crate::net::listen::ListenError;
use crate::net::tls_server::TlsConfigError;
use crate::store::{BackupError, ClusterError, OpenError, TransferError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The TLS certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The server can't listen on an address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// In open mode, systemd passed a socket that other machines can reach.
    #[error(
        "systemd passed a socket that listens on {0}; in open mode everyone who connects gets the \
         key, so set ListenStream= to 127.0.0.1, or auth.mode = \"token\", or \
         auth.allow_open = true"
    )]
    OpenToOtherMachines(SocketAddr),
    /// The history can't be opened.
    #[error(transparent)]
    History(#[from] OpenError),
    /// The server can't be part of its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cluster secret or the credentials for the engine can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A backup can't be made or restored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A history can't be exported or imported.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The at-rest key in a backup does not open.
    #[error("{file}: the at-rest key in the backup can't be opened: {source}")]
    SealedKey {
        /// The backup.
        file: String,
        /// Why.
        source: AgeError,
    },
    /// A passphrase file can't be used.
    #[error("{path}: {reason}")]
    Passphrase {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The at-rest key can't be read or made.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The admin socket or the metrics address can't be bound.
    #[error("can't bind {address}: {source}; set another admin.socket or admin.metrics")]
    AdminBind {
        /// The path of the Unix socket, or the TCP address.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// A request to the running server failed.
    #[error(transparent)]
    Ctl(#[from] CtlError),
    /// A file was changed, but the running server could not be notified.
    #[error("{done}, but {error}")]
    NotNotified {
        /// The change that was made.
        done: String,
        /// Why the server could not be notified.
        error: CtlError,
    },
    /// The access file can't be used.
    #[error(transparent)]
    Access(#[from] AccessFileError),
    /// The arguments make no sense together, or with the configuration.
    #[error("{0}")]
    Usage(String),
    /// Standard output can't be written.
    #[error("standard output can't be written: {0}")]
    Output(io::Error),
    /// The operating system refused something basic.
    #[error("the operating system refused a basic operation: {0}")]
    System(#[from] io::Error),
}

/// Why a request to the running server failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// No admin socket is configured, and there is no default folder for one.
    #[error(
        "no admin socket is configured: set admin.socket to the path that the server uses, or set \
         RUNTIME_DIRECTORY"
    )]
    NoSocket,
    /// Nothing listens on the admin socket.
    #[error("no server answers at {path}: {source}; is it running, with this configuration?")]
    NoServer {
        /// The path of the socket.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The caller may not use the admin socket.
    #[error(
        "{path}: this user may not use the admin socket; run the command as root or as the \
         server's user"
    )]
    NotAllowed {
        /// The path of the socket.
        path: String,
    },
    /// The server did not answer in time.
    #[error(
        "the server at {path} did not answer within {seconds} s; its log says whether it did what \
         was asked"
    )]
    TimedOut {
        /// The path of the socket.
        path: String,
        /// How long the command waited.
        seconds: u64,
    },
    /// The server closed the connection without a whole answer.
    #[error(
        "the server at {path} closed the connection before its answer was complete; its log says \
         whether it did what was asked"
    )]
    Closed {
        /// The path of the socket.
        path: String,
    },
    /// Another program listens on the socket.
    #[error(
        "what listens at {path} is not a chat-server: its answer makes no sense; is admin.socket right?"
    )]
    NotAServer {
        /// The path of the socket.
        path: String,
    },
    /// The server is of another version, and does not know the command.
    #[error("the running server (version {version}) doesn't know the command {verb}; {next_step}")]
    UnknownVerb {
        /// The verb of the request.
        verb: String,
        /// The version of the server.
        version: String,
        /// What the operator can do.
        next_step: &'static str,
    },
    /// The lines of `ctl tail` ended without the last one.
    #[error(
        "the server ended the connection: it was killed, or nothing read the lines for an hour; \
         see its log"
    )]
    TailEnded,
    /// The server answered with an error, whose text this is.
    #[error("{0}")]
    Refused(String),
}

impl ServerError {
    /// The exit code of the command that failed.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ServerError::Config(_) | ServerError::Tls(_) | ServerError::OpenToOtherMachines(_) => {
                ExitCode::Config
            }
            ServerError::Usage(_) => ExitCode::Usage,
            ServerError::Cluster(ClusterError::Unreachable { .. })
            | ServerError::Listen(_)
            | ServerError::AdminBind { .. } => ExitCode::Unavailable,
            ServerError::Cluster(_) => ExitCode::Config,
            ServerError::Ctl(error) | ServerError::NotNotified { error, .. } => error.exit_code(),
            ServerError::History(_)
            | ServerError::Backup(_)
            | ServerError::Transfer(_)
            | ServerError::SealedKey { .. }
            | ServerError::Passphrase { .. }
            | ServerError::Key(_)
            | ServerError::Secret(_)
            | ServerError::Access(_)
            | ServerError::Output(_) => ExitCode::IoError,
            ServerError::System(_) => ExitCode::OsError,
        }
    }
}

impl CtlError {
    fn exit_code(&self) -> ExitCode {
        match self {
            CtlError::Refused(_) | CtlError::UnknownVerb { .. } => ExitCode::Refused,
            CtlError::NoSocket
            | CtlError::NoServer { .. }
            | CtlError::NotAllowed { .. }
            | CtlError::TimedOut { .. }
            | CtlError::Closed { .. }
            | CtlError::TailEnded
            | CtlError::NotAServer { .. } => ExitCode::Unavailable,
        }
    }
}
