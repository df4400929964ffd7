//! Asks for the server (ngrok or not, host, port) and the user name, where they are missing. A wrong
//! answer is explained and asked for again.

use super::console::Console;
use crate::client::args::{Arguments, Common};
use crate::client::blanks::fill;
use crate::client::display::one_line;
use crate::client::messages::Messages;
use crate::client::room_names;
use crate::conversation::client::server_url::ServerUrl;
use crate::net::dial::read_url_file;
use crate::protocol::invitation;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: &str = "8765";

/// Completes the arguments. `None` where the user ended the input instead of answering.
pub async fn ask_for_missing(
    console: &mut Console,
    arguments: &mut Arguments,
    texts: &Messages,
) -> Option<()> {
    let common = &arguments.common;
    let is_unnamed = arguments.server.is_none() && common.url.is_none();
    if is_unnamed && common.url_file.is_none() {
        let address = ask_for_server(console, &mut arguments.common, texts).await?;
        arguments.server = address;
    }
    // The access token of an invitation proves the name, whatever the client asks for.
    let is_invited = arguments.server.is_none()
        && (arguments.common.invitation.is_some() || has_invitation(&arguments.common));
    if arguments.common.user.is_none() && !is_invited {
        let default = room_names::user(&arguments.common);
        let name = console.ask(&fill(texts.ask_name, &[&one_line(&default)])).await?;
        arguments.common.user = Some(if name.is_empty() { default } else { name });
    }
    console.end_questions();
    Some(())
}

/// Whether the file that names the server has an invitation.
fn has_invitation(common: &Common) -> bool {
    let file = common.url_file.as_deref().filter(|_| common.url.is_none());
    file.is_some_and(|file| read_url_file(file).is_ok_and(|address| address.token.is_some()))
}

/// Asks for the address. An invitation that answers one of the questions goes into `common`; then the
/// address is `None`.
async fn ask_for_server(
    console: &mut Console,
    common: &mut Common,
    texts: &Messages,
) -> Option<Option<String>> {
    let ngrok = loop {
        let answer = console.ask(texts.ask_ngrok).await?;
        match (take_invitation(common, &answer), yes_or_no(&answer)) {
            (Pasted::Invitation, _) => return Some(None),
            (Pasted::Wrong(note), _) => console.note(&note.of(texts)),
            (Pasted::Other, Some(answer)) => break answer,
            (Pasted::Other, None) => console.note(texts.yes_or_no),
        }
    };
    let (question, default) =
        if ngrok { (texts.ask_ngrok_address, "") } else { (texts.ask_host, DEFAULT_HOST) };
    loop {
        let answer = or_default(console.ask(question).await?, default);
        match take_invitation(common, &answer) {
            Pasted::Invitation => return Some(None),
            Pasted::Wrong(note) => {
                console.note(&note.of(texts));
                continue;
            }
            Pasted::Other => {}
        }
        match read_host(&answer) {
            None => console.note(&fill(texts.bad_address, &[&one_line(&answer)])),
            Some(Host::Whole) => return Some(Some(answer)),
            Some(Host::Name) if ngrok => return Some(Some(answer)),
            Some(Host::Name) => return ask_for_port(console, &answer, texts).await.map(Some),
        }
    }
}

async fn ask_for_port(console: &mut Console, host: &str, texts: &Messages) -> Option<String> {
    loop {
        let port = or_default(console.ask(texts.ask_port).await?, DEFAULT_PORT);
        match port.parse::<u16>() {
            Ok(1..) if host.contains(':') && !host.starts_with('[') => {
                return Some(format!("[{host}]:{port}"));
            }
            Ok(1..) => return Some(format!("{host}:{port}")),
            _ => console.note(&fill(texts.bad_port, &[&one_line(&port)])),
        }
    }
}

/// An answer that may be an invitation.
#[derive(Debug, PartialEq, Eq)]
enum Pasted {
    /// It was taken.
    Invitation,
    /// It can't be used.
    Wrong(WrongInvitation),
    /// It is something else.
    Other,
}

/// Why an invitation can't be used.
#[derive(Debug, PartialEq, Eq)]
enum WrongInvitation {
    Incomplete,
    Address(String),
}

impl WrongInvitation {
    fn of(&self, texts: &Messages) -> String {
        match self {
            WrongInvitation::Incomplete => texts.bad_invitation.to_owned(),
            WrongInvitation::Address(address) => fill(texts.bad_address, &[&one_line(address)]),
        }
    }
}

fn take_invitation(common: &mut Common, answer: &str) -> Pasted {
    if !invitation::is_in(answer) {
        return Pasted::Other;
    }
    if common.set_url(answer.to_owned()).is_err() {
        return Pasted::Wrong(WrongInvitation::Incomplete);
    }
    match common.url.clone().filter(|url| ServerUrl::parse(url).is_err()) {
        None => Pasted::Invitation,
        Some(address) => {
            (common.url, common.invitation) = (None, None);
            Pasted::Wrong(WrongInvitation::Address(address))
        }
    }
}

fn or_default(answer: String, default: &str) -> String {
    if answer.is_empty() { default.to_owned() } else { answer }
}

/// Yes and no, in both languages whatever the language of the question.
fn yes_or_no(answer: &str) -> Option<bool> {
    match answer.to_lowercase().as_str() {
        "y" | "yes" | "s" | "si" | "sí" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// An answer to the question for the host.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    /// A host name or an IP address; the port is missing.
    Name,
    /// A URL, or a host with a port.
    Whole,
}

/// `None` if the answer names no server.
fn read_host(answer: &str) -> Option<Host> {
    ServerUrl::parse(answer).ok()?;
    let bare_address = answer.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    match !bare_address && answer.contains([':', '/', '?']) {
        true => Some(Host::Whole),
        false => Some(Host::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_are_known_in_both_languages() {
        for answer in ["y", "Y", "yes", "s", "S", "si", "sí", "SÍ"] {
            assert_eq!(yes_or_no(answer), Some(true), "{answer}");
        }
        for answer in ["n", "N", "no", "No"] {
            assert_eq!(yes_or_no(answer), Some(false), "{answer}");
        }
        for answer in ["", "x", "yep", "nn", "0"] {
            assert_eq!(yes_or_no(answer), None, "{answer}");
        }
    }

    #[test]
    fn a_host_may_be_a_name_or_a_whole_address() {
        for name in ["localhost", "chat.example", "127.0.0.1", "::1", "[::1]"] {
            assert_eq!(read_host(name), Some(Host::Name), "{name}");
        }
        for whole in
            ["wss://chat.example", "https://abcd.ngrok.app/", "chat.example:9000", "[::1]:9"]
        {
            assert_eq!(read_host(whole), Some(Host::Whole), "{whole}");
        }
        for wrong in ["", "a b", "host:x", "ftp://x"] {
            assert_eq!(read_host(wrong), None, "{wrong}");
        }
    }
}
