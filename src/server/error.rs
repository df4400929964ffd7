//! How `chat-server` ends: one table of exit codes (sysexits.h), and every way to fail to start.

use std::process::ExitCode;

use super::commands::ctl::CtlFault;
use crate::config::ConfigFault;
use crate::credentials::access_file::AccessFault;
use crate::credentials::at_rest_key::KeyFault;
use crate::net::listen::ListenFault;
use crate::net::tls_server::TlsFault;
use crate::store::OpenFault;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// Certificate and key do not serve.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenFault),
    /// A socket of the service manager would hand the key to whoever connects.
    #[error(
        "the service manager listens on {0}, where in open mode whoever connects gets the key; let \
         ListenStream= name 127.0.0.1, or set auth.mode = \"token\", or auth.allow_open = true"
    )]
    OpenOutside(std::net::SocketAddr),
    /// The history can't be opened.
    #[error(transparent)]
    History(#[from] OpenFault),
    /// The key of the history can't be had.
    #[error(transparent)]
    Key(#[from] KeyFault),
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
    Ctl(#[from] CtlFault),
    /// Something was done, but the running server could not be told.
    #[error("{done}, but {fault}")]
    Untold {
        /// What.
        done: String,
        /// Why not.
        fault: CtlFault,
    },
    /// The access file does not serve.
    #[error(transparent)]
    Access(#[from] AccessFault),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused something basic.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

impl StartFault {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            StartFault::Config(_) | StartFault::Tls(_) | StartFault::OpenOutside(_) => 78,
            StartFault::Usage(_) => 2,
            StartFault::Listen(_) | StartFault::Admin { .. } => 69,
            StartFault::Ctl(fault) | StartFault::Untold { fault, .. } => match fault {
                CtlFault::Refused(_) => 1,
                _ => 69,
            },
            StartFault::History(_) | StartFault::Key(_) | StartFault::Access(_) => 74,
            StartFault::System(_) => 71,
        })
    }
}
