//! Runs the subcommands of `chat-client`.

use std::io::{IsTerminal as _, Write as _};

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Command};
use super::exit_code::{ExitCode, Refusal, print_error};
use super::options::{InputSource, RunOptions};
use super::{history, pipe, runtime, terminal};

/// Parses the command line and runs its subcommand.
pub fn main() -> std::process::ExitCode {
    let ended = match run(Arguments::parse()) {
        Ok(exit) => exit,
        Err((exit, text)) => {
            print_error(&text);
            exit
        }
    };
    ended.into()
}

fn run(arguments: Arguments) -> Result<ExitCode, Refusal> {
    match arguments.command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "chat-client", &mut script);
            return Ok(print(&script));
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            return Ok(if rendered.is_ok() { print(&page) } else { ExitCode::NoFile });
        }
        _ => {}
    }
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let scripted = arguments.listen || arguments.exec.is_some() || arguments.command.is_some();
    if on_terminal && !scripted {
        return Ok(terminal::run(arguments));
    }
    let options = RunOptions::new(arguments)?;
    match options.source {
        InputSource::History => runtime::block_on(history::run(options)),
        _ => runtime::block_on(pipe::run(options)),
    }
}

fn print(bytes: &[u8]) -> ExitCode {
    // A closed pipe is no error.
    let _ = std::io::stdout().write_all(bytes);
    ExitCode::Done
}
