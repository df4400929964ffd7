//! Asks for the server (ngrok or not, host, port) and the user name, where they are missing. A wrong
//! answer is explained and asked for again.

use super::console::Console;
use crate::client::args::Arguments;
use crate::client::blanks::fill;
use crate::client::display::one_line;
use crate::client::messages::Messages;
use crate::client::options;
use crate::conversation::client::server_url::ServerUrl;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: &str = "8765";

/// Completes the arguments. `None` where the user ended the input instead of answering.
pub async fn ask_for_missing(
    console: &mut Console,
    arguments: &mut Arguments,
    texts: &Messages,
) -> Option<()> {
    let common = &arguments.common;
    if arguments.server.is_none() && common.url.is_none() && common.url_file.is_none() {
        arguments.server = Some(ask_for_server(console, texts).await?);
    }
    if arguments.common.user.is_none() {
        let default = options::user(&arguments.common);
        let name = console.ask(&fill(texts.ask_name, &[&one_line(&default)])).await?;
        arguments.common.user = Some(if name.is_empty() { default } else { name });
    }
    console.end_questions();
    Some(())
}

async fn ask_for_server(console: &mut Console, texts: &Messages) -> Option<String> {
    let ngrok = loop {
        match yes_or_no(&console.ask(texts.ask_ngrok).await?) {
            Some(answer) => break answer,
            None => console.note(texts.yes_or_no),
        }
    };
    let (question, default) =
        if ngrok { (texts.ask_ngrok_address, "") } else { (texts.ask_host, DEFAULT_HOST) };
    loop {
        let answer = or_default(console.ask(question).await?, default);
        match read_host(&answer) {
            None => console.note(&fill(texts.bad_address, &[&one_line(&answer)])),
            Some(Host::Whole) => return Some(answer),
            Some(Host::Name) if ngrok => return Some(answer),
            Some(Host::Name) => return ask_for_port(console, &answer, texts).await,
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
