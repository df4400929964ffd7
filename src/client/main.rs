//! What `chat-client` does for each word on its command line.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Command};
use super::exit::{Exit, print_error};
use super::options::RunOptions;
use super::pipe;
use super::terminal;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.verb {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "chat-client", &mut script);
            return print(&script);
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            return if rendered.is_ok() { print(&page) } else { Exit::NoFile.into() };
        }
        _ => {}
    }
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let scripted = arguments.listen || arguments.exec.is_some() || arguments.verb.is_some();
    if on_terminal && !scripted {
        return terminal::run(arguments);
    }
    match RunOptions::of(arguments) {
        Ok(plan) => pipe::run(plan),
        Err((exit, text)) => {
            print_error(&text);
            exit.into()
        }
    }
}

fn print(bytes: &[u8]) -> ExitCode {
    // A closed pipe is no fault of ours.
    let _ = std::io::stdout().write_all(bytes);
    Exit::Done.into()
}
