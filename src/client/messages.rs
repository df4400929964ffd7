//! The texts of the conversation on a terminal, in English and Spanish. One struct, so that no
//! language can lack a text; `{}` stands for a name or a number.

use super::display::one_line;
use super::failure::{Attempt, Failure};
use super::spanish;
use crate::net::dial::DialError;

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Spanish.
    Spanish,
}

/// All texts of one language.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the texts below explain them")]
pub struct Messages {
    pub language: Language,
    pub ask_ngrok: &'static str,
    pub ask_ngrok_address: &'static str,
    pub ask_host: &'static str,
    pub ask_port: &'static str,
    pub ask_name: &'static str,
    pub yes_or_no: &'static str,
    pub bad_address: &'static str,
    pub bad_port: &'static str,
    pub bad_invitation: &'static str,
    pub invitation_argument: &'static str,
    pub connecting: &'static str,
    pub connected: &'static str,
    pub retrying: &'static str,
    pub lost: &'static str,
    pub back: &'static str,
    pub waiting: &'static str,
    pub waiting_for_server: &'static str,
    pub not_taken: &'static str,
    pub joined: &'static str,
    pub left: &'static str,
    pub here: &'static str,
    pub here_in_all: &'static str,
    pub room: &'static str,
    pub room_left: &'static str,
    pub room_rule: &'static str,
    pub not_in_room: &'static str,
    pub only_room: &'static str,
    pub one_room: &'static str,
    pub not_connected: &'static str,
    pub no_server: &'static str,
    pub closed_told: &'static str,
    pub gap: &'static str,
    pub gap_expired: &'static str,
    pub gap_damaged: &'static str,
    pub gap_write_only: &'static str,
    pub gap_epoch: &'static str,
    pub gap_future: &'static str,
    pub redacted: &'static str,
    pub refused: &'static str,
    pub not_sent: &'static str,
    pub unreadable: &'static str,
    pub unknown_command: &'static str,
    pub history_rule: &'static str,
    pub help: &'static str,
    pub search: &'static str,
    pub line_full: &'static str,
    pub paste_cut: &'static str,
    pub too_long: &'static str,
    pub too_long_kept: &'static str,
    pub backwards: &'static str,
    pub more_errors: &'static str,
    pub key_not_utf8: &'static str,
    pub line_not_utf8: &'static str,
    pub no_terminal: &'static str,
    pub unsent_at_end: &'static str,
    pub no_history: &'static str,
    pub end_to_end: &'static str,
    pub not_end_to_end: &'static str,
    pub members: &'static str,
    pub members_added: &'static str,
    pub members_removed: &'static str,
    pub members_promoted: &'static str,
    pub members_demoted: &'static str,
    pub entry_unreadable: &'static str,
    pub entries_missing: &'static str,
    pub alarm: &'static str,
    pub verify_digits: &'static str,
    pub verify_code: &'static str,
    pub verify_question: &'static str,
    pub bye: &'static str,
}

/// English.
pub const ENGLISH: Messages = Messages {
    language: Language::English,
    ask_ngrok: "Use ngrok? (y/n): ",
    ask_ngrok_address: "ngrok address (such as abcd.ngrok.app): ",
    ask_host: "Server host [127.0.0.1]: ",
    ask_port: "Port [8765]: ",
    ask_name: "User name [{}]: ",
    yes_or_no: "answer y or n",
    bad_address: "{} is not the address of a server; write a host name, or an address such as wss://chat.example",
    bad_port: "{} is not a port; a port is a number from 1 to 65535",
    bad_invitation: "the access token at the end of the invitation is not whole; paste the whole line",
    invitation_argument: "an invitation can't be an argument, because other users can read those and the shell keeps them. Run chat-client without it and paste it at the first question, or put it in a file (chmod 600) for --url-file, or in CHAT_URL",
    connecting: "connecting to {} …",
    connected: "connected as {}; /help lists the commands",
    retrying: "{}; trying again",
    lost: "connection lost; reconnecting …",
    back: "connected again",
    waiting: "waiting, {} to send",
    waiting_for_server: "waiting for the server",
    not_taken: "too many messages wait to be sent; enter this one again later",
    joined: "{} joined",
    left: "{} left",
    here: "here: {}",
    here_in_all: "here: {} … ({} in all)",
    room: "you are in {} now",
    room_left: "you have left {}",
    room_rule: "a room's name has 1 to 64 characters: a-z, 0-9 and - _ . with a letter or digit first",
    not_in_room: "you are not in {}",
    only_room: "this is your only room; /quit leaves the chat",
    one_room: "this server has one room",
    not_connected: "there is no connection; try again later",
    no_server: "no connection to {}: gave up after {}; is it running there? Name another by: chat-client HOST:PORT",
    closed_told: "the server closed the connection ({})",
    gap: "messages are missing here: {}",
    gap_expired: "they are no longer kept",
    gap_damaged: "they were lost by damage to the server's store",
    gap_write_only: "the server says that you may only write here, and did not send them",
    gap_epoch: "the server's store was lost or restored",
    gap_future: "the server never had them",
    redacted: "message {} was deleted",
    refused: "refused: {}",
    not_sent: "not sent: {} ({})",
    unreadable: "(unreadable)",
    unknown_command: "{} is no command; /help lists them. To send it, begin the line with //",
    history_rule: "/history N: N is a number from 1 on",
    help: "/who  who is here\n/join ROOM  talk in another room\n/leave [ROOM]  leave a room\n/history [N]  the last messages again\n/quit or exit  leave\n//TEXT  send a text that begins with /\nAlt-Enter  a line break in a message",
    search: "(search: {}) ",
    line_full: "that does not fit: a line has at most 64 KiB",
    paste_cut: "the pasted text was cut after 64 KiB",
    too_long: "not sent: this message has {} characters, and the server takes {}; shorten it, or delete a part with Ctrl-K and bring that back into the next message with Ctrl-Y",
    too_long_kept: "the arrow up brings the message back",
    backwards: "the server repeats message {} of {}, or counts anew; it is not shown",
    more_errors: "the server sent {} more errors",
    key_not_utf8: "a key was ignored: it is not UTF-8; set your terminal to UTF-8",
    line_not_utf8: "a line was not sent: it is not UTF-8; set your terminal to UTF-8",
    no_terminal: "this terminal can't be used: {}; try --listen, or a pipe",
    unsent_at_end: "messages that are not known to be stored: {}",
    no_history: "this server keeps no history",
    end_to_end: "{} is end-to-end encrypted: only the devices of its members can read it; /who names them",
    not_end_to_end: "{} is an end-to-end room, which needs this device's keys; to enter it, start: chat-client -r {}",
    members: "members: {}",
    members_added: "{} added {}",
    members_removed: "{} removed {}",
    members_promoted: "{} made admins of: {}",
    members_demoted: "{} made ordinary members of: {}",
    entry_unreadable: "message {} of {} can't be read: {}",
    entries_missing: "messages of {} are missing: number {} to {} of the device {}",
    alarm: "WARNING, somebody is not honest: {}",
    verify_digits: "digits of {} and {}, the same on both devices:",
    verify_code: "a camera reads the same digits from the code",
    verify_question: "Does {} see the same digits? (y/n): ",
    bye: "bye",
};

/// Spanish.
pub const SPANISH: Messages = Messages {
    language: Language::Spanish,
    ask_ngrok: "¿Usar ngrok? (y/n): ",
    ask_ngrok_address: "Dirección de ngrok (como abcd.ngrok.app): ",
    ask_host: "Host del servidor [127.0.0.1]: ",
    ask_port: "Puerto [8765]: ",
    ask_name: "Usuario [{}]: ",
    yes_or_no: "responde y (sí) o n (no)",
    bad_address: "{} no es la dirección de un servidor; escribe un nombre de host, o una dirección como wss://chat.example",
    bad_port: "{} no es un puerto; un puerto es un número de 1 a 65535",
    bad_invitation: "el token de acceso al final de la invitación no está entero; pega la línea entera",
    invitation_argument: "una invitación no puede ser un argumento, porque otros usuarios pueden leerlos y el shell los guarda. Ejecuta chat-client sin ella y pégala en la primera pregunta, o ponla en un archivo (chmod 600) para --url-file, o en CHAT_URL",
    connecting: "conectando con {} …",
    connected: "conectado como {}; /help muestra los comandos",
    retrying: "{}; vuelvo a intentarlo",
    lost: "conexión perdida; vuelvo a conectar …",
    back: "conectado de nuevo",
    waiting: "en espera, {} por enviar",
    waiting_for_server: "esperando al servidor",
    not_taken: "hay demasiados mensajes por enviar; vuelve a introducir este más tarde",
    joined: "{} se ha unido",
    left: "{} ha salido",
    here: "aquí: {}",
    here_in_all: "aquí: {} … ({} en total)",
    room: "ahora estás en {}",
    room_left: "has salido de {}",
    room_rule: "el nombre de una sala tiene de 1 a 64 caracteres: a-z, 0-9 y - _ . y empieza por letra o cifra",
    not_in_room: "no estás en {}",
    only_room: "es tu única sala; /quit sale del chat",
    one_room: "este servidor tiene una sola sala",
    not_connected: "no hay conexión; vuelve a intentarlo más tarde",
    no_server: "sin conexión con {}: abandonado tras {}; ¿está en marcha? Para nombrar otro: chat-client SERVIDOR:PUERTO",
    closed_told: "el servidor cerró la conexión ({})",
    gap: "aquí faltan mensajes: {}",
    gap_expired: "ya no se guardan",
    gap_damaged: "se perdieron por un daño en el almacén del servidor",
    gap_write_only: "el servidor dice que aquí solo puedes escribir, y no los envió",
    gap_epoch: "el almacén del servidor se perdió o se restauró",
    gap_future: "el servidor nunca los tuvo",
    redacted: "el mensaje {} fue borrado",
    refused: "rechazado: {}",
    not_sent: "no enviado: {} ({})",
    unreadable: "(ilegible)",
    unknown_command: "{} no es un comando; /help los muestra. Para enviarlo, empieza la línea con //",
    history_rule: "/history N: N es un número a partir de 1",
    help: "/who  quién está\n/join SALA  hablar en otra sala\n/leave [SALA]  salir de una sala\n/history [N]  los últimos mensajes otra vez\n/quit o exit  salir\n//TEXTO  enviar un texto que empieza por /\nAlt-Intro  un salto de línea en un mensaje",
    search: "(buscar: {}) ",
    line_full: "eso no cabe: una línea tiene como mucho 64 KiB",
    paste_cut: "el texto pegado se cortó tras 64 KiB",
    too_long: "no enviado: este mensaje tiene {} caracteres, y el servidor admite {}; acórtalo, o borra una parte con Ctrl-K y recupérala en el mensaje siguiente con Ctrl-Y",
    too_long_kept: "la flecha arriba recupera el mensaje",
    backwards: "el servidor repite el mensaje {} de {}, o cuenta de nuevo; no se muestra",
    more_errors: "el servidor envió {} errores más",
    key_not_utf8: "se ignoró una tecla: no es UTF-8; configura el terminal en UTF-8",
    line_not_utf8: "no se envió una línea: no es UTF-8; configura el terminal en UTF-8",
    no_terminal: "este terminal no sirve: {}; prueba --listen, o una tubería",
    unsent_at_end: "mensajes que quizá no están guardados: {}",
    no_history: "este servidor no guarda historial",
    end_to_end: "{} está cifrada de extremo a extremo: solo la leen los dispositivos de sus miembros; /who los nombra",
    not_end_to_end: "{} es una sala cifrada de extremo a extremo y necesita las claves de este dispositivo; para entrar, ejecuta: chat-client -r {}",
    members: "miembros: {}",
    members_added: "{} ha añadido a {}",
    members_removed: "{} ha retirado a {}",
    members_promoted: "{} ha dado permisos de administración a {}",
    members_demoted: "{} ha quitado los permisos de administración a {}",
    entry_unreadable: "el mensaje {} de {} no se puede leer: {}",
    entries_missing: "faltan mensajes de {}: los números {} a {} del dispositivo {}",
    alarm: "AVISO, alguien no es honrado: {}",
    verify_digits: "cifras de {} y {}, las mismas en ambos dispositivos:",
    verify_code: "una cámara lee las mismas cifras en el código",
    verify_question: "¿Ve {} las mismas cifras? (y/n): ",
    bye: "adiós",
};

impl Messages {
    /// Why a conversation ended.
    pub fn of_failure(&self, failure: &Failure) -> String {
        match self.language {
            Language::English => failure.to_string(),
            Language::Spanish => spanish::failure(failure),
        }
    }

    /// Why an attempt to connect led to no session.
    pub fn of_attempt(&self, attempt: &Attempt, server: &str) -> String {
        match self.language {
            Language::English => attempt.describe(server),
            Language::Spanish => spanish::attempt(attempt, server),
        }
    }

    /// Why an attempt to connect failed.
    pub fn of_dial_error(&self, error: &DialError) -> String {
        match self.language {
            Language::English => error.to_string(),
            Language::Spanish => spanish::dial_error(error),
        }
    }

    /// The sentence for an `error` frame. `text` is the server's own sentence.
    pub fn of_error(&self, code: &str, text: &str) -> String {
        match self.language {
            Language::English => text.to_owned(),
            Language::Spanish => spanish::error(code).map_or(text, |text| text).to_owned(),
        }
    }

    /// A sentence about end-to-end rooms, which is written in English where it belongs.
    pub fn of_end_to_end(&self, text: &str) -> String {
        match self.language {
            Language::English => text.to_owned(),
            Language::Spanish => spanish::end_to_end(text),
        }
    }

    /// Why messages are missing.
    pub fn of_gap(&self, reason: &str) -> String {
        match reason {
            "expired" => self.gap_expired.to_owned(),
            "damaged" => self.gap_damaged.to_owned(),
            "write_only" => self.gap_write_only.to_owned(),
            "epoch" => self.gap_epoch.to_owned(),
            "future" => self.gap_future.to_owned(),
            other => one_line(other),
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
            of_locale(move |asked| (asked == name).then(|| value.to_owned())).language
        };
        use Language::{English, Spanish};
        assert_eq!(of("LANG", "es_MX.UTF-8"), Spanish);
        assert_eq!(of("LC_ALL", "es"), Spanish);
        assert_eq!(of("LANG", "en_GB.UTF-8"), English);
        assert_eq!(of("LANG", "est_EE"), English);
        assert_eq!(of("OTHER", "es"), English);
    }
}
