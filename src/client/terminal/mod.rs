//! A conversation on a terminal.

mod chat;
mod editor;
mod screen;

use std::io::Write as _;
use std::process::ExitCode;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use super::args::Arguments;
use super::exit::{Exit, print_error};
use super::messages::{self, Messages, fill};
use super::options::{self, RunOptions};
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::read_positions::ReadPositions;
use crate::net::dial::Dialer;
use editor::{LineEditor, Names};

/// Asks what was not told, connects, and talks until the user leaves.
pub fn run(arguments: Arguments) -> ExitCode {
    let words = messages::of_locale(|name| std::env::var(name).ok());
    // The editor may be in the middle of a line when we end: the terminal is put back as it was.
    let before = tcgetattr(std::io::stdin());
    if let Ok(before) = &before {
        keys_only(before.clone());
    }
    let exit = talk(arguments, words);
    if let Ok(before) = before {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
    }
    if exit == Exit::Done {
        // A terminal that is gone hears no goodbye.
        let _ = writeln!(std::io::stdout(), "\r{}", words.bye);
    }
    exit.into()
}

/// Whether the terminal can do nothing but print.
fn is_dumb() -> bool {
    matches!(std::env::var("TERM").as_deref(), Ok("dumb" | "") | Err(_))
}

/// Keys come as they are pressed, and the terminal itself shows none (termios(3)). The editor asks
/// for the same while it reads a line; this holds between two lines, so that what is typed ahead is
/// neither echoed into the conversation nor changed on its way.
fn keys_only(mut mode: Termios) {
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

fn talk(mut arguments: Arguments, words: &'static Messages) -> Exit {
    let names = Names::default();
    let mut typing = match LineEditor::new(names.clone()) {
        Ok(typing) => typing,
        Err(error) => {
            print_error(&format!("this terminal can't be used: {error}; try --listen, or a pipe"));
            return Exit::Usage;
        }
    };
    if ask_what_is_missing(&mut typing, &mut arguments, words).is_none() {
        return Exit::Done;
    }
    let plan = match RunOptions::of(arguments) {
        Ok(plan) => plan,
        Err((exit, text)) => {
            print_error(&text);
            return exit;
        }
    };
    let dialer = match Dialer::new(plan.target, &plan.trust) {
        Ok(dialer) => dialer,
        Err(error) => {
            print_error(&error.to_string());
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("can't start: {error}"));
            return Exit::NoServer;
        }
    };
    let conversation = Conversation::new(plan.wish, ReadPositions::default());
    let (lines, screen) = typing.start();
    let shown = screen.clone();
    let exit = runtime.block_on(async {
        let patience = plan.patience;
        match chat::ChatSession::new(dialer, conversation, lines, screen, names, words, patience) {
            Ok(talk) => talk.run().await,
            Err(error) => {
                print_error(&format!("can't start: {error}"));
                Exit::NoServer
            }
        }
    });
    shown.end();
    // The editor's thread waits for a key that will not come.
    runtime.shutdown_background();
    exit
}

/// On first start: ngrok or not, host, port, name. `None`: the user would rather not.
fn ask_what_is_missing(
    typing: &mut LineEditor,
    arguments: &mut Arguments,
    words: &Messages,
) -> Option<()> {
    if arguments.server.is_none() && arguments.common.url.is_none() {
        let ngrok = typing.ask(words.ask_ngrok)?.to_lowercase();
        let url = if ngrok.starts_with(words.yes) || ngrok.starts_with('y') {
            typing.ask(words.ask_ngrok_address)?
        } else {
            let host = typing.ask(words.ask_host)?;
            let port = typing.ask(words.ask_port)?;
            let or =
                |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
            format!("{}:{}", or(host, "127.0.0.1"), or(port, "8765"))
        };
        arguments.server = Some(url);
    }
    if arguments.common.user.is_none() {
        let usual = options::user(&arguments.common);
        let name = typing.ask(&fill(words.ask_name, &[&usual]))?;
        arguments.common.user = Some(if name.is_empty() { usual } else { name });
    }
    Some(())
}
