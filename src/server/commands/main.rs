//! Entry point of `chat-server`: parses the command line, runs the command, and prints its error.

use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Command, ConfigArgs};
use super::output::{print, print_error, print_help};
use super::{backup, check, ctl, export, import, invite, rekey, restore, token};
use crate::config::Config;
use crate::protocol::mask;
use crate::server::admin::reload::Reload;
use crate::server::error::ServerError;
use crate::server::exit_code::ExitCode;
use crate::server::run;
use crate::sys::signals::{self, EarlySignals, Signals};
use crate::sys::{fault_points, logging, signal_mask};

/// How long blocked file operations may delay the exit, once the server has stopped.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs `chat-server` with the arguments of this process.
pub fn main() -> std::process::ExitCode {
    let early_signals = EarlySignals::hold_back();
    // After the handlers are there: a signal that waits comes at once.
    signal_mask::unblock_all();
    let Arguments { command, config } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => return ended(print_help(&error)),
        Err(error) => exit(&error),
    };
    let command = command.unwrap_or(Command::Run);
    if !matches!(command, Command::Run)
        && let Ok(early_signals) = early_signals
    {
        early_signals.release();
        // A command that can't write then says so.
        let _ = signals::survive_file_size_limit();
    }
    ended(match command {
        Command::Run => serve(&config),
        Command::Check => check::run(&config),
        Command::Token { command } => token::run(&config, &command),
        Command::Invite(arguments) => invite::run(&config, &arguments),
        Command::Ctl { json, all_nodes, command } => ctl::run(&config, json, all_nodes, &command),
        Command::Backup(arguments) => backup::run(&config, &arguments),
        Command::Restore(arguments) => restore::run(&config, &arguments),
        Command::Export(arguments) => export::run(&config, &arguments),
        Command::Import(arguments) => import::run(&config, &arguments),
        Command::Rekey { key, new_key } => rekey::run(&config, key.as_deref(), new_key.as_deref()),
        Command::Completions { shell } => completions(shell),
        Command::Man => man(),
    })
}

/// The exit code of a command, whose error is printed.
fn ended(outcome: Result<(), ServerError>) -> std::process::ExitCode {
    match outcome {
        Ok(()) => ExitCode::Ok.into(),
        Err(error) => {
            print_error(&error.to_string());
            error.exit_code().into()
        }
    }
}

/// Prints the error of a command line that makes no sense, and exits.
fn exit(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    match mask::secrets(&text) {
        shown if shown != text => {
            eprint!("{shown}");
            std::process::exit(error.exit_code());
        }
        _ => error.exit(),
    }
}

fn serve(config: &ConfigArgs) -> Result<(), ServerError> {
    // The hub and the log writer have threads of their own. With as many workers as cores, a small
    // machine would wake workers that find nothing to do.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.saturating_sub(1).max(1))
        .enable_all()
        .build()?;
    // Before the configuration is read: a signal that comes from here on is obeyed after the start.
    let mut signals = {
        let _entered = runtime.enter();
        Signals::new()?
    };
    let sources = config.sources();
    let load = {
        let sources = sources.clone();
        move || {
            fault_points::point("config_read");
            Config::load(&sources)
        }
    };
    let loaded = runtime.block_on(run::unless_stopped(&mut signals, load));
    let Some(loaded) = loaded? else {
        runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
        return Ok(());
    };
    let config = loaded?;
    let server_log = logging::start(&config.log);
    let reload = Reload { sources, started: config.clone() };
    let outcome = runtime.block_on(run::run(config, signals, reload, server_log));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    outcome
}

fn completions(shell: clap_complete::Shell) -> Result<(), ServerError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "chat-server", &mut script);
    print(&script)
}

fn man() -> Result<(), ServerError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
    print(&page)
}
