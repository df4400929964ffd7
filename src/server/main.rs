//! What `chat-server` does for each word on its command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Place, Verb};
use super::context::Live;
use super::exit::StartFault;
use super::reload::Reload;
use super::run;
use crate::doors::config::Config;
use crate::host::logging;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.verb {
        None | Some(Verb::Run) => serve(&arguments.place),
        Some(Verb::Check) => check(&arguments.place),
        Some(Verb::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "chat-server", &mut script);
            print(&script)
        }
        Some(Verb::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command())
                .render(&mut page)
                .map_err(StartFault::from)
                .and_then(|()| print(&page))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            for line in fault.to_string().lines() {
                eprintln!("chat-server: {line}");
            }
            fault.code()
        }
    }
}

fn serve(place: &Place) -> Result<(), StartFault> {
    let sources = place.sources();
    let config = Config::load(&sources)?;
    let logs = logging::start(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run::run(config, Reload { sources, logs }));
    // What is still blocked on a dying disk must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}

/// Strictly read-only: binds nothing, makes nothing, writes nothing but its answer.
fn check(place: &Place) -> Result<(), StartFault> {
    let config = Config::load(&place.sources())?;
    let written = toml::to_string_pretty(&config.written).unwrap_or_default();
    Live::new(config)?;
    print(written.as_bytes())
}

fn print(bytes: &[u8]) -> Result<(), StartFault> {
    match std::io::stdout().write_all(bytes) {
        Err(fault) if fault.kind() != std::io::ErrorKind::BrokenPipe => Err(fault.into()),
        _ => Ok(()),
    }
}
