//! Takes over the terminal, asks for what the command line does not give, and runs the
//! conversation.

use std::io::Write as _;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use super::chat::{Chat, TerminalParts};
use super::editor::{LineEditor, Names};
use crate::client::args::Arguments;
use crate::client::driver::Driver;
use crate::client::exit_code::{ExitCode, Refusal, print_error};
use crate::client::messages::{self, Messages, fill};
use crate::client::options::{self, RunOptions};
use crate::client::runtime;
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::read_positions::ReadPositions;
use crate::net::dial::Dialer;

/// Asks for what the command line does not give, connects, and runs until the user quits.
pub fn run(arguments: Arguments) -> ExitCode {
    let texts = messages::of_locale(|name| std::env::var(name).ok());
    // The run may end while the editor reads a line, so the terminal's mode is restored here.
    let before = tcgetattr(std::io::stdin());
    if let Ok(before) = &before {
        set_key_mode(before.clone());
    }
    let exit = converse(arguments, texts).unwrap_or_else(|(exit, text)| {
        print_error(&text);
        exit
    });
    if let Ok(before) = before {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
    }
    if exit == ExitCode::Done {
        // The terminal may be gone.
        let _ = writeln!(std::io::stdout(), "\r{}", texts.bye);
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

/// Delivers keys as they are pressed, without echo (termios(3)). The editor sets the same mode while
/// it reads a line; this keeps it between two lines, so that keys typed ahead are neither echoed
/// into the conversation nor changed.
fn set_key_mode(mut mode: Termios) {
    if is_dumb() {
        return;
    }
    mode.local_modes &=
        !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG);
    mode.input_modes &= !(InputModes::ICRNL | InputModes::IXON | InputModes::ISTRIP);
    mode.special_codes[SpecialCodeIndex::VMIN] = 1;
    mode.special_codes[SpecialCodeIndex::VTIME] = 0;
    let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &mode);
}

fn converse(mut arguments: Arguments, texts: &'static Messages) -> Result<ExitCode, Refusal> {
    let names = Names::default();
    let mut editor = LineEditor::new(names.clone(), is_dumb()).map_err(|error| {
        (ExitCode::Usage, format!("this terminal can't be used: {error}; try --listen, or a pipe"))
    })?;
    if ask_for_missing(&mut editor, &mut arguments, texts).is_none() {
        return Ok(ExitCode::Done);
    }
    let options = RunOptions::new(arguments)?;
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let conversation = Conversation::new(options.connect, ReadPositions::default());
    let (lines, screen) = editor.start();
    let parts =
        TerminalParts { lines, screen: screen.clone(), names, texts, colours: has_colours() };
    let ended = runtime::block_on(async {
        let chat = Chat::new(Driver::new(dialer, conversation), parts, options.timeout)
            .map_err(|error| (ExitCode::NoServer, format!("can't start: {error}")))?;
        Ok(chat.run().await)
    });
    screen.end();
    ended
}

/// Asks for the server (ngrok or not, host, port) and the user name, where they are missing. `None`
/// where the user ended the input instead of answering.
fn ask_for_missing(
    editor: &mut LineEditor,
    arguments: &mut Arguments,
    texts: &Messages,
) -> Option<()> {
    let common = &arguments.common;
    if arguments.server.is_none() && common.url.is_none() && common.url_file.is_none() {
        let ngrok = editor.ask(texts.ask_ngrok)?.to_lowercase();
        let url = if ngrok.starts_with(texts.yes) || ngrok.starts_with('y') {
            editor.ask(texts.ask_ngrok_address)?
        } else {
            let host = editor.ask(texts.ask_host)?;
            let port = editor.ask(texts.ask_port)?;
            let or_default = |answer: String, default: &str| match answer.as_str() {
                "" => default.to_owned(),
                _ => answer,
            };
            format!("{}:{}", or_default(host, "127.0.0.1"), or_default(port, "8765"))
        };
        arguments.server = Some(url);
    }
    if arguments.common.user.is_none() {
        let default = options::user(&arguments.common);
        let name = editor.ask(&fill(texts.ask_name, &[&default]))?;
        arguments.common.user = Some(if name.is_empty() { default } else { name });
    }
    Some(())
}
