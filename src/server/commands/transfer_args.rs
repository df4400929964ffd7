//! The arguments of `chat-server export` and `chat-server import`. The `///` texts are their help.

use std::path::PathBuf;

use clap::Args;

/// The options of `chat-server export`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("form").required(true)))]
pub struct ExportArgs {
    /// The file to write; it must not exist. - is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Encrypt it with the passphrase in this file, one line
    #[arg(long, value_name = "FILE", group = "form")]
    pub passphrase_file: Option<PathBuf>,
    /// Encrypt it to a public key in the age format (age1...)
    #[arg(long, value_name = "KEY", group = "form")]
    pub recipient: Option<String>,
    /// Do not encrypt it: whoever reads the file reads every message
    #[arg(long, group = "form")]
    pub plaintext: bool,
    /// File of the at-rest key [default: the systemd credential, else the file beside the history]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Print one JSON object, to standard error if the file is -
    #[arg(long)]
    pub json: bool,
}

/// The options of `chat-server import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file that `chat-server export` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File that contains the passphrase of an encrypted file, in one line
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
