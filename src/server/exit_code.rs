//! The exit codes of `chat-server`: one table, with the names of sysexits.h where it has one.

/// Why the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command did what was asked.
    Ok = 0,
    /// The running server refused the request.
    Refused = 1,
    /// Wrong usage of the command line.
    Usage = 2,
    /// EX_UNAVAILABLE: the server can't listen, no server answers, or the engine of a cluster is not ready.
    Unavailable = 69,
    /// EX_OSERR: the operating system refused something basic.
    OsError = 71,
    /// EX_IOERR: the history, its key or the access file can't be used, or standard output can't be
    /// written.
    IoError = 74,
    /// EX_CONFIG: the configuration is wrong, or the engine of a cluster is not what it says.
    Config = 78,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}
