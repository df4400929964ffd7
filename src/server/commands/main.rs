//! What `chat-server` does for each word on its command line.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Command, ConfigArgs, CtlCommand, TokenCommand};
use super::ctl::{self, CtlError};
use super::token;
use crate::config::{Config, Store};
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::Timestamp;
use crate::server::admin::reload::Reload;
use crate::server::context::ActiveConfig;
use crate::server::error::ServerError;
use crate::server::run;
use crate::store::rekey as rekey_store;
use crate::sys::logging;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.verb {
        None | Some(Command::Run) => serve(&arguments.place),
        Some(Command::Check) => check(&arguments.place),
        Some(Command::Token { verb }) => tokens(&arguments.place, &verb),
        Some(Command::Ctl { json, verb }) => control(&arguments.place, json, &verb),
        Some(Command::Rekey { key, new_key }) => {
            rekey(&arguments.place, key.as_deref(), new_key.as_deref())
        }
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "chat-server", &mut script);
            print(&script)
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command())
                .render(&mut page)
                .map_err(ServerError::from)
                .and_then(|()| print(&page))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("chat-server: {line}");
            }
            error.code()
        }
    }
}

fn serve(place: &ConfigArgs) -> Result<(), ServerError> {
    let sources = place.sources();
    let config = Config::load(&sources)?;
    let logs = logging::start(&config.log);
    // Hub and log_writer have threads of their own; on a small machine a second worker would mostly be
    // woken to find nothing to do.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.saturating_sub(1).max(1))
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run::run(config, Reload { sources, logs }));
    // What is still blocked on a dying disk must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}

/// Strictly read-only: binds nothing, makes nothing, writes nothing but its answer.
fn check(place: &ConfigArgs) -> Result<(), ServerError> {
    let config = Config::load(&place.sources())?;
    let written = toml::to_string_pretty(&config.raw).unwrap_or_default();
    ActiveConfig::new(config)?;
    print(written.as_bytes())
}

fn tokens(place: &ConfigArgs, verb: &TokenCommand) -> Result<(), ServerError> {
    let said = token::run(&Config::load(&place.sources())?, verb)?;
    if !said.note.is_empty() {
        eprintln!("chat-server: {}", said.note);
    }
    print(said.out.as_bytes())
}

fn control(place: &ConfigArgs, json: bool, verb: &CtlCommand) -> Result<(), ServerError> {
    let (socket, broken) = Config::admin_socket(&place.sources())?;
    let answer = match (ctl::ask(socket.as_deref(), &verb.wish()), broken) {
        // Then the socket may have been a guess.
        (Err(CtlError::NoServer { .. }), Some(broken)) => return Err(broken.into()),
        (answer, broken) => {
            let answer = answer?;
            if let Some(broken) = broken {
                eprintln!(
                    "chat-server: done; but what is configured now is not in force: {broken}"
                );
            }
            answer
        }
    };
    match json {
        true => print(format!("{answer}\n").as_bytes()),
        false => print(ctl::show(&answer).as_bytes()),
    }
}

fn rekey(
    place: &ConfigArgs,
    key: Option<&Path>,
    new_key: Option<&Path>,
) -> Result<(), ServerError> {
    let config = Config::load(&place.sources())?;
    if config.history.store != Store::Disk {
        return Err(ServerError::Usage("history.store is not \"disk\": nothing is at rest".into()));
    }
    let folder = &config.history.path;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let key = match key {
        Some(file) => AtRestKey::open_loose(file)?,
        None => AtRestKey::find(folder, credentials.as_deref())?,
    };
    let next = match new_key {
        Some(file) => AtRestKey::open_loose(file)?,
        None if key.file().is_none() => {
            return Err(ServerError::Usage(
                "the present key is a credential: make the new one yourself (openssl rand -base64 32), \
                 name it by --new-key, and give it as the credential afterwards"
                    .into(),
            ));
        }
        None => AtRestKey::fresh(),
    };
    let done = rekey_store(folder, &key, &next, Timestamp::from_system(SystemTime::now()))?;
    let damaged = match done.damaged {
        0 => String::new(),
        count => format!("; {count} could not be read and are left out"),
    };
    print(format!("{} messages are under the new key{damaged}\n", done.messages).as_bytes())
}

fn print(bytes: &[u8]) -> Result<(), ServerError> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
