//! How `chat-server` ends: one table of exit codes (sysexits.h), and every way to fail to start.

use std::process::ExitCode;

use super::commands::ctl::CtlError;
use crate::config::ConfigError;
use crate::credentials::access_file::AccessFileError;
use crate::credentials::at_rest_key::KeyFileError;
use crate::net::listen::ListenError;
use crate::net::tls_server::TlsConfigError;
use crate::store::OpenError;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificate and key do not serve.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A socket of the service manager would hand the key to whoever connects.
    #[error(
        "the service manager listens on {0}, where in open mode whoever connects gets the key; let \
         ListenStream= name 127.0.0.1, or set auth.mode = \"token\", or auth.allow_open = true"
    )]
    OpenOutside(std::net::SocketAddr),
    /// The history can't be opened.
    #[error(transparent)]
    History(#[from] OpenError),
    /// The key of the history can't be had.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The admin socket or the metrics' address can't be bound.
    #[error("can't bind {path}: {source}; give another admin.socket or admin.metrics")]
    Admin {
        /// The socket.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The running server can't be asked, or said no.
    #[error(transparent)]
    Ctl(#[from] CtlError),
    /// Something was done, but the running server could not be told.
    #[error("{done}, but {error}")]
    Untold {
        /// What.
        done: String,
        /// Why not.
        error: CtlError,
    },
    /// The access file does not serve.
    #[error(transparent)]
    Access(#[from] AccessFileError),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused something basic.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

impl ServerError {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            ServerError::Config(_) | ServerError::Tls(_) | ServerError::OpenOutside(_) => 78,
            ServerError::Usage(_) => 2,
            ServerError::Listen(_) | ServerError::Admin { .. } => 69,
            ServerError::Ctl(error) | ServerError::Untold { error, .. } => match error {
                CtlError::Refused(_) => 1,
                _ => 69,
            },
            ServerError::History(_) | ServerError::Key(_) | ServerError::Access(_) => 74,
            ServerError::System(_) => 71,
        })
    }
}
