//! The texts of the conversation on a terminal, in English and Spanish. One struct, so that no
//! language can lack a text; `{}` stands for a name or a number.

use super::failure::Failure;

/// All texts of one language.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the texts below explain them")]
pub struct Messages {
    pub ask_ngrok: &'static str,
    pub ask_ngrok_address: &'static str,
    pub ask_host: &'static str,
    pub ask_port: &'static str,
    pub ask_name: &'static str,
    pub yes: &'static str,
    pub connecting: &'static str,
    pub connected: &'static str,
    pub lost: &'static str,
    pub back: &'static str,
    pub joined: &'static str,
    pub left: &'static str,
    pub here: &'static str,
    pub here_in_all: &'static str,
    pub room: &'static str,
    pub room_rule: &'static str,
    pub one_room: &'static str,
    pub no_server: &'static str,
    pub closed: &'static str,
    pub gap: &'static str,
    pub refused: &'static str,
    pub not_sent: &'static str,
    pub unreadable: &'static str,
    pub unknown_command: &'static str,
    pub help: &'static str,
    pub unsent_at_end: &'static str,
    pub no_history: &'static str,
    pub bye: &'static str,
}

/// English.
pub const ENGLISH: Messages = Messages {
    ask_ngrok: "Is the server behind ngrok? [y/N] ",
    ask_ngrok_address: "Its address (such as abcd.ngrok.app): ",
    ask_host: "Host [127.0.0.1]: ",
    ask_port: "Port [8765]: ",
    ask_name: "Your name [{}]: ",
    yes: "y",
    connecting: "connecting to {} …",
    connected: "connected as {}; /help lists the commands",
    lost: "connection lost; reconnecting …",
    back: "connected again",
    joined: "{} joined",
    left: "{} left",
    here: "here: {}",
    here_in_all: "here: {} … ({} in all)",
    room: "you are in {} now",
    room_rule: "a room's name has 1 to 64 characters: a-z, 0-9 and - _ . with a letter or digit first",
    one_room: "this server has one room",
    no_server: "{}; is it running there? Name another by: chat-client HOST:PORT",
    closed: "the server closed the connection: {} ({})",
    gap: "messages are missing here and no longer available ({})",
    refused: "refused: {}",
    not_sent: "not sent: {}",
    unreadable: "(unreadable)",
    unknown_command: "{} is no command; /help lists them",
    help: "/who  who is here\n/join ROOM  talk in another room\n/history [N]  the last messages again\n/quit or exit  leave",
    unsent_at_end: "not known to be stored: {} messages",
    no_history: "this server keeps no history",
    bye: "bye",
};

/// Spanish.
pub const SPANISH: Messages = Messages {
    ask_ngrok: "¿Está el servidor detrás de ngrok? [s/N] ",
    ask_ngrok_address: "Su dirección (como abcd.ngrok.app): ",
    ask_host: "Servidor [127.0.0.1]: ",
    ask_port: "Puerto [8765]: ",
    ask_name: "Tu nombre [{}]: ",
    yes: "s",
    connecting: "conectando con {} …",
    connected: "conectado como {}; /help muestra los comandos",
    lost: "conexión perdida; vuelvo a conectar …",
    back: "conectado de nuevo",
    joined: "{} se ha unido",
    left: "{} ha salido",
    here: "aquí: {}",
    here_in_all: "aquí: {} … ({} en total)",
    room: "ahora estás en {}",
    room_rule: "el nombre de una sala tiene de 1 a 64 caracteres: a-z, 0-9 y - _ . y empieza por letra o cifra",
    one_room: "este servidor tiene una sola sala",
    no_server: "{}; ¿está en marcha? Para nombrar otro: chat-client SERVIDOR:PUERTO",
    closed: "el servidor cerró la conexión: {} ({})",
    gap: "aquí faltan mensajes que ya no se pueden recuperar ({})",
    refused: "rechazado: {}",
    not_sent: "no enviado: {}",
    unreadable: "(ilegible)",
    unknown_command: "{} no es un comando; /help los muestra",
    help: "/who  quién está\n/join SALA  hablar en otra sala\n/history [N]  los últimos mensajes otra vez\n/quit o exit  salir",
    unsent_at_end: "no se sabe si están guardados: {} mensajes",
    no_history: "este servidor no guarda historial",
    bye: "adiós",
};

impl Messages {
    /// Why a conversation ended.
    pub fn of_failure(&self, failure: &Failure) -> String {
        match failure {
            Failure::Closed { code, reason, .. } => fill(self.closed, &[reason, code]),
            Failure::NotReached { reason } => fill(self.no_server, &[reason]),
            other => other.to_string(),
        }
    }
}

/// The texts for a locale (locale(7)): Spanish for a Spanish locale, else English.
pub fn of_locale(variable: impl Fn(&str) -> Option<String>) -> &'static Messages {
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"]
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        .unwrap_or_default();
    let language = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
    if language.eq_ignore_ascii_case("es") { &SPANISH } else { &ENGLISH }
}

/// A text with its blanks filled, in order.
pub fn fill(sentence: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut out = String::new();
    let mut pieces = sentence.split("{}");
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        out.push_str(values.next().unwrap_or(&""));
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and text of every field, read from the `Debug` form.
    fn texts(messages: &Messages) -> Vec<(String, String)> {
        format!("{messages:#?}")
            .lines()
            .filter_map(|line| line.trim().trim_end_matches(',').split_once(": "))
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    }

    #[test]
    fn both_languages_have_every_text_with_the_same_blanks() {
        let (english, spanish) = (texts(&ENGLISH), texts(&SPANISH));
        assert!(english.len() > 20);
        for ((name, ours), (_, theirs)) in english.iter().zip(&spanish) {
            assert!(ours.len() > 2 && theirs.len() > 2, "{name} is empty");
            assert_eq!(ours.matches("{}").count(), theirs.matches("{}").count(), "{name}");
        }
    }

    #[test]
    fn the_locale_selects_the_language() {
        let of = |name: &'static str, value: &'static str| {
            of_locale(move |asked| (asked == name).then(|| value.to_owned())).yes
        };
        assert_eq!(of("LANG", "es_MX.UTF-8"), "s");
        assert_eq!(of("LC_ALL", "es"), "s");
        assert_eq!(of("LANG", "en_GB.UTF-8"), "y");
        assert_eq!(of("LANG", "est_EE"), "y");
        assert_eq!(of("OTHER", "es"), "y");
    }

    #[test]
    fn a_failure_reads_the_same_in_the_pipe_and_on_an_english_terminal() {
        let closed =
            Failure::Closed { close_code: 4003, code: "forbidden".into(), reason: "no".into() };
        let not_reached = Failure::NotReached { reason: "no answer".into() };
        for failure in [closed, not_reached] {
            assert_eq!(ENGLISH.of_failure(&failure), failure.to_string());
        }
    }

    #[test]
    fn blanks_are_filled_in_order() {
        assert_eq!(fill("{} and {}", &["a", "b"]), "a and b");
        assert_eq!(fill("{}", &[]), "");
        assert_eq!(fill("none", &["x"]), "none");
    }
}
