//! Runs the subcommands of `chat-client`.

use std::io::IsTerminal as _;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Command};
use super::exit_code::{ExitCode, Refusal, print_error};
use super::messages::{ENGLISH, of_locale};
use super::options::{InputSource, RunOptions};
use super::{commands, history, pipe, runtime, terminal};
use crate::protocol::{invitation, mask};
use crate::sys::signal_mask;
use crate::sys::stdio::{self, OutputError};

/// Parses the command line and runs its subcommand.
pub fn main() -> std::process::ExitCode {
    signal_mask::unblock_all();
    let exit = match Arguments::try_parse() {
        Ok(arguments) => run(arguments).unwrap_or_else(|(exit, text)| {
            print_error(&text);
            exit
        }),
        Err(error) => explain(&error),
    };
    if let ExitCode::Signal(signal) = exit {
        // A shell tells a program that was interrupted from one that ended by itself.
        signal.end_process();
    }
    exit.into()
}

/// Prints the help or the version, which were asked for, or what is wrong with the command line.
fn explain(error: &clap::Error) -> ExitCode {
    let styled = error.render();
    let colours = |on_terminal: bool| {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        on_terminal && !unwanted
    };
    let text = |on_terminal: bool| match colours(on_terminal) {
        true => styled.ansi().to_string(),
        false => styled.to_string(),
    };
    if error.use_stderr() {
        let text = text(std::io::stderr().is_terminal());
        // It may quote an argument.
        stdio::write_stderr(mask::secrets(&text).as_bytes());
        return ExitCode::Usage;
    }
    print(text(std::io::stdout().is_terminal()).as_bytes())
}

fn run(mut arguments: Arguments) -> Result<ExitCode, Refusal> {
    match arguments.command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "chat-client", &mut script);
            return Ok(print(&script));
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command())
                .render(&mut page)
                .expect("writing to memory does not fail");
            return Ok(print(&page));
        }
        _ => {}
    }
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let scripted = arguments.listen || arguments.exec.is_some() || arguments.command.is_some();
    let converses = on_terminal && !scripted;
    let urls = [&arguments.server, &arguments.common.url];
    if urls.into_iter().flatten().any(|url| invitation::is_in(url)) {
        let texts = if converses { of_locale(|name| std::env::var(name).ok()) } else { &ENGLISH };
        return Err((ExitCode::Usage, texts.invitation_argument.into()));
    }
    arguments
        .common
        .fill_in(|name| std::env::var_os(name))
        .map_err(|text| (ExitCode::Usage, text))?;
    if converses {
        return Ok(terminal::run(arguments));
    }
    match arguments.command {
        Some(Command::Room { .. }) => {
            return runtime::block_on(commands::room::run(arguments));
        }
        Some(Command::Verify { ref name, ref code }) => {
            return commands::verify::run(&arguments, name, code.as_deref());
        }
        Some(Command::Device { ref action }) => {
            return commands::device::run(&arguments, action);
        }
        _ => {}
    }
    let options = RunOptions::new(arguments)?;
    match options.source {
        InputSource::History => runtime::block_on(history::run(options)),
        _ => runtime::block_on(pipe::run(options)),
    }
}

/// Prints to standard output. A closed pipe is no error.
fn print(bytes: &[u8]) -> ExitCode {
    match stdio::write_stdout(bytes) {
        Ok(()) | Err(OutputError::Closed) => ExitCode::Done,
        Err(OutputError::Failed(error)) => {
            print_error(&format!("standard output can't be written: {error}"));
            ExitCode::NoStdio
        }
    }
}
