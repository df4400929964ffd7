//! `chat-server invite`: makes an access token, and prints the one line with which its user joins.

use std::io::{IsTerminal as _, stderr, stdout};

use rustix::termios::tcgetwinsize;
use serde_json::json;

use super::args::{ConfigArgs, InviteArgs};
use super::invite_address::{self, Listening};
use super::output::{print, print_error};
use super::token;
use crate::config::Config;
use crate::server::error::ServerError;
use crate::sys::qr_code::{Drawing, is_utf8};

/// Makes the invitation. Standard output gets the line, or with `--json` an object; all else goes to
/// standard error.
pub fn run(config: &ConfigArgs, arguments: &InviteArgs) -> Result<(), ServerError> {
    let sources = config.command_sources();
    let config = Config::load(&sources)?;
    let listening = Listening::of(&config);
    // Before the access token is made, because without an address it would be of no use.
    let (address, origin) =
        invite_address::find(arguments.url.as_deref(), &config, &sources, &listening)?;
    let made = token::make(&config, &arguments.rights)?;
    let invitation = address.invitation(&made.token);
    let record = &made.record;
    print_error(&made.note(&config));
    print_error(&format!("the invitation leads to {address} ({origin})"));
    if address.is_loopback() {
        print_error("this address works only on this computer");
    }
    if listening.is_open {
        print_error(
            "the server is in open mode: everyone who knows its address can join, under any name and without \
             an invitation; set auth.mode = \"token\"",
        );
    }
    if arguments.json {
        let answer = json!({
            "invitation": *invitation, "url": address.to_string(), "user": record.user,
            "rooms": record.rooms, "role": record.role, "id": record.id(),
            "expires": record.expires, "file": config.auth.access_file.display().to_string(),
        });
        return print(format!("{answer}\n").as_bytes());
    }
    let user = &record.user;
    print_error(&format!(
        "anyone who has this line can join as {user}, so send it privately. To join, run chat-client and paste it at the \
         first question"
    ));
    print(format!("{}\n", *invitation).as_bytes())?;
    if stdout().is_terminal() && stderr().is_terminal() {
        draw(&invitation);
    }
    Ok(())
}

/// Draws the QR code on the terminal, if it can show one.
fn draw(invitation: &str) {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_dumb = variable("TERM").is_none_or(|term| term == "dumb");
    let Some(drawing) = Drawing::of(invitation).filter(|_| !is_dumb && is_utf8(variable)) else {
        return;
    };
    let window = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
    if window < drawing.columns() {
        let columns = drawing.columns();
        return print_error(&format!(
            "the window is too narrow for the QR code, which takes {columns} columns"
        ));
    }
    eprint!("{}", drawing.lines(variable("NO_COLOR").is_none()));
}
