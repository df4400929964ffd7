//! How `chat-server` ends: one table of exit codes (sysexits.h), and every way to fail to start.

use std::process::ExitCode;

use crate::doors::config::ConfigFault;
use crate::doors::keyfile::KeyFault;
use crate::doors::log::OpenFault;
use crate::host::listen::ListenFault;
use crate::host::tls::TlsFault;

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
    /// The history can't be opened.
    #[error(transparent)]
    History(#[from] OpenFault),
    /// The key of the history can't be had.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The operating system refused something basic.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

impl StartFault {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            StartFault::Config(_) | StartFault::Tls(_) => 78,
            StartFault::Listen(_) => 69,
            StartFault::History(_) | StartFault::Key(_) => 74,
            StartFault::System(_) => 71,
        })
    }
}
