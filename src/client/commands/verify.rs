//! `chat-client verify`: two users compare digits over another way, and their clients know each other's keys from then on.

use std::io::{BufRead as _, IsTerminal as _};

use rustix::termios::tcgetwinsize;

use super::device::open_existing;
use crate::client::args::Arguments;
use crate::client::blanks::fill;
use crate::client::display::one_line;
use crate::client::end_to_end::{Problem, StepError, day};
use crate::client::end_to_end_options::end_to_end_options;
use crate::client::exit_code::{ExitCode, Refusal, print_error};
use crate::client::messages::{Messages, of_locale};
use crate::client::options::target;
use crate::crypto::fingerprint::{self, USER_DIGITS};
use crate::mls::device::{Device, pin, put_pin, seen_key};
use crate::mls::rows::Room;
use crate::mls::{Step, room};
use crate::policy::pins::{Pin, PinOrigin};
use crate::protocol::device::UserKey;
use crate::sys::clock::wall_clock;
use crate::sys::qr_code::{Drawing, is_utf8};
use crate::sys::stdio;

/// What is known of the other user.
struct Known {
    own: (String, UserKey),
    pin: Option<Pin>,
    /// The key to be compared: the newest that was seen.
    key: Option<UserKey>,
}

/// Shows the digits, or compares those that were given. On a terminal it asks, in the user's language.
pub fn run(arguments: &Arguments, name: &str, code: Option<&str>) -> Result<ExitCode, Refusal> {
    let is_asked = code.is_none()
        && std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal();
    let texts = is_asked.then(|| of_locale(|name| std::env::var(name).ok()));
    let tell = |text: &str| match texts {
        Some(texts) => texts.of_end_to_end(text),
        None => text.to_owned(),
    };
    let said = verify(arguments, name, code, texts).map_err(|(exit, text)| (exit, tell(&text)))?;
    said.iter().for_each(|note| print_error(&tell(note)));
    Ok(ExitCode::Done)
}

/// What is to be said at the end. `texts`: those in which the user is asked.
fn verify(
    arguments: &Arguments,
    name: &str,
    code: Option<&str>,
    texts: Option<&Messages>,
) -> Result<Option<String>, Refusal> {
    let refused = |problem: Problem| (problem.exit(), problem.text);
    let server = target(arguments.server.as_deref(), &arguments.common)
        .map_err(|text| (ExitCode::Usage, text))?;
    let options = end_to_end_options(&arguments.common, &server)?;
    let mut state = open_existing(&options).map_err(refused)?;
    let known = state.step(|step| look(step, name)).map_err(|error| refused(error.into()))?;
    let Some(key) = known.key else {
        return Err((
            ExitCode::Identity,
            format!("no key of {name} was seen yet; one is seen when {name} is in a room with you"),
        ));
    };
    let digits = fingerprint::of_users((&known.own.0, &known.own.1), (name, &key));
    if let Some(pin) = known.pin.filter(|pin| pin.key != key) {
        let changed = format!(
            "{name}'s key changed: {} since {}, {} now",
            pin.key.short(),
            day(pin.since),
            key.short()
        );
        print_error(&texts.map_or(changed.clone(), |texts| texts.of_end_to_end(&changed)));
    }
    let same = match code {
        Some(code) => {
            let Some(code) = fingerprint::parse(code, USER_DIGITS) else {
                return Err((ExitCode::Usage, format!("--code: expected {USER_DIGITS} digits")));
            };
            if code != digits {
                return Err((
                    ExitCode::Identity,
                    format!(
                        "the digits differ, so {name} has another key than {}; ask {name} again, and trust nothing from this server until you know why",
                        key.short()
                    ),
                ));
            }
            true
        }
        None => ask((&known.own.0, name), &digits, texts)?,
    };
    if !same {
        return Ok(None);
    }
    let pin = Pin { key, since: wall_clock(), origin: PinOrigin::Verified };
    state.step(|step| put_pin(step, name, &pin)).map_err(|error| refused(error.into()))?;
    Ok(Some(format!("{name}'s key counts as verified from now on")))
}

fn look(step: &Step<'_>, name: &str) -> Result<Known, StepError> {
    let device = Device::load(step)?.ok_or_else(|| {
        Problem::identity("this device has no keys yet; they are made by: chat-client -r +ROOM")
    })?;
    let own = (device.certificate.user.clone(), device.certificate.user_key);
    let pin = pin(step, name)?;
    let mut key = seen_key(step, name)?;
    for known in Room::names(step)? {
        if key.is_none()
            && let Ok(roster) = room::roster(step, &known)
        {
            let leaf = roster.leaves.values().find(|leaf| leaf.user == name);
            key = leaf.map(|leaf| leaf.user_key);
        }
    }
    Ok(Known { own, pin, key: key.or(pin.map(|pin| pin.key)) })
}

/// Prints the digits, and with `texts` asks whether the other user sees the same.
fn ask(users: (&str, &str), digits: &str, texts: Option<&Messages>) -> Result<bool, Refusal> {
    let (own, name) = (one_line(users.0), one_line(users.1));
    if let Some(texts) = texts {
        let heading = fill(texts.verify_digits, &[&own, &name]);
        stdio::write_stderr(format!("{heading}\n").as_bytes());
    }
    let (first, second) = digits.split_at(digits.len() / 2);
    let text = format!("{}\n{}\n", first.trim(), second.trim());
    if stdio::write_stdout(text.as_bytes()).is_err() {
        return Err((ExitCode::NoStdio, "standard output can't be written".into()));
    }
    let Some(texts) = texts else { return Ok(false) };
    let columns = tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col.into());
    if let Some(code) = drawn(digits, columns, |name| std::env::var(name).ok()) {
        stdio::write_stderr(format!("{code}{}\n", texts.verify_code).as_bytes());
    }
    stdio::write_stderr(fill(texts.verify_question, &[&name]).as_bytes());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes" | "s" | "si" | "sí")
}

/// The QR code of the digits, if the terminal can show one: black on white, in half blocks.
fn drawn(
    digits: &str,
    columns: usize,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_plain = variable("TERM").is_none_or(|term| term == "dumb");
    if is_plain || variable("NO_COLOR").is_some() || !is_utf8(variable) {
        return None;
    }
    let drawing = Drawing::of(digits)?;
    (columns >= drawing.columns()).then(|| drawing.lines(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_drawn_only_where_it_can_be_read() {
        let digits = ["12345"; 12].join(" ");
        let of = |columns: usize, set: &[(&str, &str)]| {
            let usual = [("TERM", "xterm"), ("LANG", "es_ES.UTF-8")];
            let known = |name: &str| {
                let found = set.iter().chain(&usual).find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            drawn(&digits, columns, known)
        };
        let lines = of(37, &[]).unwrap();
        assert!(
            lines.lines().count() <= 19,
            "it fits a window of 24 lines, with what is around it"
        );
        assert_eq!(of(36, &[]), None);
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", ""), ("LANG", "C")] {
            assert_eq!(of(80, &[(name, value)]), None, "{name}={value}");
        }
        assert!(of(80, &[("NO_COLOR", "")]).is_some());
    }

    #[test]
    fn yes_is_said_in_both_languages() {
        assert!(["y", "Yes\n", "s", "SÍ", "si"].iter().all(|answer| is_yes(answer)));
        assert!(["", "n", "no", "yo"].iter().all(|answer| !is_yes(answer)));
    }
}
