//! What a line that was typed means.

/// A line that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed<'a> {
    /// Only blanks.
    Nothing,
    /// A message, exactly as it is sent.
    Message(&'a str),
    /// A command.
    Command(Command<'a>),
    /// It looks like a command, and there is none of that name.
    Unknown(&'a str),
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the help describes them")]
pub enum Command<'a> {
    Help,
    Who,
    Join(&'a str),
    /// The room; empty for the current one.
    Leave(&'a str),
    /// How many messages; empty for the usual number.
    History(&'a str),
    Quit,
}

impl<'a> Typed<'a> {
    /// Reads a line. A command is `exit`, or `/` and a word of letters, on a line of its own; `//` at the beginning
    /// stands for `/`.
    pub fn read(line: &'a str) -> Self {
        // A paste often ends with a line end.
        let line = line.trim_end_matches('\n');
        if line.trim().is_empty() {
            return Typed::Nothing;
        }
        if line.starts_with("//") {
            return Typed::Message(&line[1..]);
        }
        if line.trim_end() == "exit" {
            return Typed::Command(Command::Quit);
        }
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let is_command = word
            .strip_prefix('/')
            .is_some_and(|name| !name.is_empty() && name.chars().all(char::is_alphabetic));
        if !is_command || line.contains('\n') {
            return Typed::Message(line);
        }
        let rest = rest.trim();
        Typed::Command(match word.to_lowercase().as_str() {
            "/help" => Command::Help,
            "/who" => Command::Who,
            "/join" => Command::Join(rest),
            "/leave" => Command::Leave(rest),
            "/history" => Command::History(rest),
            "/quit" | "/exit" => Command::Quit,
            _ => return Typed::Unknown(word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sent_as_they_were_typed() {
        for (line, sent) in [
            ("hola", "hola"),
            ("  indented ", "  indented "),
            ("\tx = 1\n\ty = 2\n", "\tx = 1\n\ty = 2"),
            ("//who", "/who"),
            ("//", "/"),
            ("///x", "//x"),
            ("/etc/passwd is broken", "/etc/passwd is broken"),
            ("/", "/"),
            ("/ 2", "/ 2"),
            ("/2 of them", "/2 of them"),
            (" /who", " /who"),
            ("/who\nsecond line", "/who\nsecond line"),
            ("exit now", "exit now"),
        ] {
            assert_eq!(Typed::read(line), Typed::Message(sent), "{line:?}");
        }
        for line in ["", " ", "\t \n\n"] {
            assert_eq!(Typed::read(line), Typed::Nothing, "{line:?}");
        }
    }

    #[test]
    fn commands_are_recognised() {
        for (line, command) in [
            ("/help", Command::Help),
            ("/who ", Command::Who),
            ("/Join  ops ", Command::Join("ops")),
            ("/leave", Command::Leave("")),
            ("/leave ops", Command::Leave("ops")),
            ("/history 5", Command::History("5")),
            ("/quit", Command::Quit),
            ("/exit", Command::Quit),
            ("exit ", Command::Quit),
        ] {
            assert_eq!(Typed::read(line), Typed::Command(command), "{line:?}");
        }
        assert_eq!(Typed::read("/nonsense x"), Typed::Unknown("/nonsense"));
    }
}
