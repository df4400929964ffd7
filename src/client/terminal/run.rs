//! Takes over the terminal, asks for what the command line does not give, and runs the
//! conversation.

use std::io;

use super::chat::Chat;
use super::console::Console;
use super::mode::write;
use super::questions::ask_for_missing;
use crate::client::args::Arguments;
use crate::client::blanks::fill;
use crate::client::driver::Driver;
use crate::client::exit_code::{ExitCode, Refusal, print_error};
use crate::client::messages::{self, Messages};
use crate::client::options::RunOptions;
use crate::client::runtime;
use crate::conversation::client::conversation::{ConnectOptions, Conversation};
use crate::conversation::client::read_positions::ReadPositions;
use crate::conversation::client::server_url::ServerUrl;
use crate::net::dial::Dialer;
use crate::protocol::RoomName;
use crate::sys::termination_signal::TerminationSignal;

/// Asks for what the command line does not give, connects, and runs until the user quits.
pub fn run(arguments: Arguments) -> ExitCode {
    let texts = messages::of_locale(|name| std::env::var(name).ok());
    let exit = runtime::block_on(converse(arguments, texts)).unwrap_or_else(|(exit, text)| {
        print_error(&texts.of_end_to_end(&text));
        exit
    });
    if exit == ExitCode::Done {
        write(&format!("{}\n", texts.bye));
    }
    exit
}

/// Whether the terminal can only print, without control sequences.
fn is_dumb() -> bool {
    matches!(std::env::var("TERM").as_deref(), Ok("dumb" | "") | Err(_))
}

/// Whether names and notes are coloured (no-color.org).
fn has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_dumb() && !unwanted
}

/// The console is dropped before anything more is printed.
async fn converse(mut arguments: Arguments, texts: &'static Messages) -> Result<ExitCode, Refusal> {
    let unusable =
        |error: io::Error| (ExitCode::Usage, fill(texts.no_terminal, &[&error.to_string()]));
    let mut termination = TerminationSignal::new().map_err(unusable)?;
    let mut console = Console::new(texts, is_dumb(), has_colours()).map_err(unusable)?;
    let answered = tokio::select! {
        answered = ask_for_missing(&mut console, &mut arguments, texts) => answered,
        () = termination.next() => None,
    };
    if answered.is_none() {
        return Ok(ExitCode::Done);
    }
    check(&arguments, texts)?;
    let options = RunOptions::new(arguments)?;
    let end_to_end = options.open_end_to_end()?;
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, texts.of_dial_error(&error)))?;
    // A conversation shows who is there, and its own messages once they are stored.
    let connect = ConnectOptions { presence: true, echo: true, ..options.connect };
    let conversation = Conversation::new(connect, ReadPositions::default());
    let driver = Driver::new(dialer, conversation, end_to_end);
    let give_up = (options.timeout, options.timeout_given);
    Ok(Chat::new(driver, console, termination, texts, has_colours(), give_up).run().await)
}

/// Refuses in the user's language what people get wrong most.
fn check(arguments: &Arguments, texts: &Messages) -> Result<(), Refusal> {
    let server = arguments.server.as_ref().or(arguments.common.url.as_ref());
    if let Some(url) = server.filter(|url| ServerUrl::parse(url).is_err()) {
        return Err((ExitCode::Usage, fill(texts.bad_address, &[url])));
    }
    // @user is another user, whose name is checked with the options.
    let is_wrong = |room: &&String| !room.starts_with('@') && RoomName::parse(room).is_none();
    match arguments.common.room.iter().find(is_wrong) {
        Some(room) => Err((ExitCode::Usage, format!("{room}: {}", texts.room_rule))),
        None => Ok(()),
    }
}
