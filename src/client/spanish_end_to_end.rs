//! The sentences about end-to-end rooms in Spanish. In English they are written where they belong, in `end_to_end/` and in
//! the errors of `mls/`; a test reads those files, so that none lacks a translation.

use super::blanks::{fill, match_blanks};
use super::spanish_groups::GROUP_SENTENCES;

/// A sentence about an end-to-end room in Spanish; `None` for another text. Reasons inside of it are translated too.
pub fn sentence(text: &str) -> Option<String> {
    all().find_map(|(english, spanish)| {
        let values = match_blanks(english, text)?;
        let values: Vec<String> =
            values.into_iter().map(|value| sentence(value).unwrap_or(value.to_owned())).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        Some(fill(spanish, &values))
    })
}

/// All sentences. Those that fit most texts come last.
fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    SENTENCES.iter().chain(GROUP_SENTENCES)
}

/// English and Spanish; `{}` stands for the same text in both, in the same order. Each has other words than blanks.
const SENTENCES: &[(&str, &str)] = &[
    // Coming into a room, and being in it.
    (
        "waiting to be let into {}; an admin of the room runs: chat-client room add {} {}",
        "a la espera de entrar en {}; quien administra la sala ejecuta: chat-client room add {} {}",
    ),
    ("coming into {} …", "entrando en {} …"),
    ("let into {}; members: {}", "ya estás en {}; miembros: {}"),
    (
        "an invitation to {} can't be used: {}; an admin removes this device and adds its user again: chat-client room remove {} --device {}, then chat-client room add {} {}",
        "una invitación a {} no sirve: {}; quien administra la sala retira este dispositivo y vuelve a añadir a su usuario: chat-client room remove {} --device {}, y luego chat-client room add {} {}",
    ),
    (
        "this device was removed from {}; an admin can add it again",
        "este dispositivo fue retirado de {}; quien administra la sala puede volver a añadirlo",
    ),
    (
        "{} is not in {} (any more); ask an admin of the room: chat-client room add {} {}",
        "{} no está (o ya no está) en {}; pide a quien administra la sala: chat-client room add {} {}",
    ),
    (
        "this device is not in {}; an admin of the room can add it",
        "este dispositivo no está en {}; quien administra la sala puede añadirlo",
    ),
    (
        "made the keys of {} in {}; {}'s key is {}",
        "claves de {} creadas en {}; la clave de {} es {}",
    ),
    (
        "this server does not know end-to-end rooms; they need chat-server 0.2 or later",
        "este servidor no conoce las salas cifradas de extremo a extremo; hace falta chat-server 0.2 o posterior",
    ),
    // Changes of a room.
    (
        "this device has forgotten the keys of {}; an admin of the room should remove it: chat-client room remove {} --device {}",
        "este dispositivo ha olvidado las claves de {}; quien administra la sala debería retirarlo: chat-client room remove {} --device {}",
    ),
    (
        "--device {}: a device has 16 characters of a-z 2-7",
        "--device {}: un dispositivo tiene 16 caracteres de a-z 2-7",
    ),
    (
        "{} is no end-to-end room; the name of one begins with +, such as +{}",
        "{} no es una sala cifrada de extremo a extremo; su nombre empieza por +, como +{}",
    ),
    ("can't start: {}", "no se puede empezar: {}"),
    ("{}: not done within {}; try again", "{}: sin terminar en {}; vuelve a intentarlo"),
    ("{} is open, and you are an admin of it", "{} está abierta, y tú la administras"),
    ("{} is open, and you are in it", "{} está abierta, y tú estás en ella"),
    ("admins of {} now: {}", "administran {} ahora: {}"),
    (
        "{} would have no admin; make another member one first: chat-client room promote {} NAME",
        "{} se quedaría sin nadie que la administre; da antes permisos a otro miembro: chat-client room promote {} NOMBRE",
    ),
    (
        "nobody else is an admin of {}; make another member one first: chat-client room promote {} NAME",
        "nadie más administra {}; da antes permisos a otro miembro: chat-client room promote {} NOMBRE",
    ),
    ("direct messages have no admins", "los mensajes directos no tienen administradores"),
    ("in {} now: {}", "en {} ahora: {}"),
    ("no longer in {}: {}", "ya no está en {}: {}"),
    ("{} has no such member", "{} no tiene ese miembro"),
    ("others keep changing {}; try again", "otros siguen cambiando {}; vuelve a intentarlo"),
    (
        "{} exists already, and this device is not in it; ask an admin of the room: chat-client room add {} {}",
        "{} ya existe, y este dispositivo no está en ella; pide a quien la administra: chat-client room add {} {}",
    ),
    ("{} has no keys on this server yet: {}", "{} aún no tiene claves en este servidor: {}"),
    (
        "{} runs once: chat-client -r {}; then: chat-client room add {} {}",
        "{} ejecuta una vez: chat-client -r {}; después: chat-client room add {} {}",
    ),
    ("{} can't be added: {}; {}", "no se puede añadir a {}: {}; {}"),
    (
        "the keys of this user's devices have expired",
        "las claves de los dispositivos de esa persona han caducado",
    ),
    (
        "this user has no device that can be added",
        "esa persona no tiene ningún dispositivo que se pueda añadir",
    ),
    (
        "{}'s device {} has another key ({}) than the one that is known, so it was not added",
        "el dispositivo de {} {} tiene otra clave ({}) que la conocida, así que no se añadió",
    ),
    (
        "the server refused the change of {}: {} ({})",
        "el servidor rechazó el cambio de {}: {} ({})",
    ),
    ("the id was used before with another text", "el identificador ya se usó con otro texto"),
    // Keys.
    (
        "{}'s key is {}, seen for the first time; to compare it with {}: chat-client verify {}",
        "la clave de {} es {}, vista por primera vez; para compararla con {}: chat-client verify {}",
    ),
    (
        "{}'s key is not the one pinned on {} ({} then, {} now): somebody may be in between, or {} started anew; ask {} in another way, then: {}",
        "la clave de {} no es la anotada el {} ({} entonces, {} ahora): puede haber alguien en medio, o {} empezó de nuevo; pregunta a {} por otra vía, y después: {}",
    ),
    (
        "{}'s key is {}, and the file of --pins names {}",
        "la clave de {} es {}, y el archivo de --pins nombra {}",
    ),
    (
        "the file of --pins does not name {}, whose key is {}",
        "el archivo de --pins no nombra a {}, cuya clave es {}",
    ),
    ("nobody compared {}'s key ({}) yet: {}", "nadie ha comparado aún la clave de {} ({}): {}"),
    (
        "a device that calls itself {} has another key ({}) than this one ({})",
        "un dispositivo que se llama {} tiene otra clave ({}) que este ({})",
    ),
    (
        "no key of {} was seen yet; one is seen when {} is in a room with you",
        "aún no se ha visto ninguna clave de {}; se ve cuando {} está en una sala contigo",
    ),
    ("{}'s key changed: {} since {}, {} now", "la clave de {} cambió: {} desde {}, {} ahora"),
    ("--code: expected {} digits", "--code: se esperaban {} cifras"),
    (
        "the digits differ, so {} has another key than {}; ask {} again, and trust nothing from this server until you know why",
        "las cifras no coinciden, así que {} tiene otra clave que {}; vuelve a preguntar a {}, y no te fíes de nada de este servidor hasta saber por qué",
    ),
    (
        "{} has no keys on this server yet; waiting",
        "{} aún no tiene claves en este servidor; en espera",
    ),
    ("{} has no such member: {}", "{} no tiene ese miembro: {}"),
    (
        "only an admin of {} can do this, and {} is none",
        "solo un administrador de {} puede hacer esto, y {} no lo es",
    ),
    (
        "{} runs once: chat-client -r @ and your name",
        "{} ejecuta una vez: chat-client -r @ y tu nombre",
    ),
    ("{}'s key counts as verified from now on", "la clave de {} vale como verificada desde ahora"),
    ("standard output can't be written", "no se puede escribir en la salida estándar"),
    // The device.
    (
        "whose device is it? name the user by --user",
        "¿de quién es el dispositivo? nombra a la persona con --user",
    ),
    (
        "there are no keys in {}; they are made by: chat-client -r +ROOM, or name another folder by --e2e-home",
        "no hay claves en {}; las crea: chat-client -r +SALA, o nombra otra carpeta con --e2e-home",
    ),
    ("this device has no keys yet", "este dispositivo aún no tiene claves"),
    (
        "this device has no keys yet; they are made by: chat-client -r +ROOM",
        "este dispositivo aún no tiene claves; las crea: chat-client -r +SALA",
    ),
    ("{} has the keys of {} already", "{} ya tiene las claves de {}"),
    (
        "this device does not have the key of its user; add the other one from a device that has it",
        "este dispositivo no tiene la clave de su usuario; añade el otro desde un dispositivo que la tenga",
    ),
    (
        "this device does not have the key of its user; make a new one by chat-client device add, from a device that has it",
        "este dispositivo no tiene la clave de su usuario; crea uno nuevo con chat-client device add, desde un dispositivo que la tenga",
    ),
    (
        "the message with the id {} is not known to be stored",
        "no se sabe si el mensaje con el identificador {} está guardado",
    ),
    (
        "neither HOME nor XDG_STATE_HOME is set; name a folder by --e2e-home",
        "ni HOME ni XDG_STATE_HOME están definidas; nombra una carpeta con --e2e-home",
    ),
    (
        "{} has {} bytes; the key of a device's state has 32 (head -c 32 /dev/urandom)",
        "{} tiene {} bytes; la clave del estado de un dispositivo tiene 32 (head -c 32 /dev/urandom)",
    ),
    (
        "the server calls this user {}, and --user is {}; in end-to-end rooms both must be the same",
        "el servidor te llama {}, y --user es {}; en las salas cifradas de extremo a extremo deben coincidir",
    ),
    (
        "the server calls this user {}, and the keys in {} are those of {}; name another folder by --e2e-home, or another user by --user",
        "el servidor te llama {}, y las claves en {} son las de {}; nombra otra carpeta con --e2e-home, u otro usuario con --user",
    ),
    (
        "this device has no certificate yet; connect once",
        "este dispositivo aún no tiene certificado; conéctate una vez",
    ),
    ("the user's key is missing", "falta la clave del usuario"),
    (
        "no certificate can be made for this user name",
        "no se puede crear un certificado para ese nombre de usuario",
    ),
    (
        "this device has said something in {} that its state does not know: the folder is a copy or was restored from a backup; nothing is encrypted with it any more; to start anew with another key: chat-client device renew",
        "este dispositivo ha dicho algo en {} que su estado no conoce: la carpeta es una copia o viene de una copia de seguridad; ya no se cifra nada con ella; para empezar con otra clave: chat-client device renew",
    ),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proc_macro2::{Delimiter, TokenStream, TokenTree};

    use super::*;

    /// Texts of `end_to_end/` that are no sentences, and those that a blank fits anywhere.
    const LEFT_OUT: [&str; 6] =
        [", ", "{}: {}", "the user", "the server", "chat-client verify {}", "(y/n) "];
    /// Macros whose texts nobody is shown.
    const UNSHOWN: [&str; 4] = ["json", "assert", "debug_assert", "unreachable"];

    /// The text of a literal with `{}` for each blank.
    fn with_blanks(literal: &str) -> Option<String> {
        let text = literal.strip_prefix('"')?.strip_suffix('"')?;
        let mut out = String::new();
        let mut signs = text.chars().peekable();
        while let Some(sign) = signs.next() {
            match sign {
                '\\' if signs.peek() == Some(&'\n') => {
                    while signs.next_if(|next| next.is_whitespace()).is_some() {}
                }
                '\\' => out.extend(signs.next()),
                '{' => {
                    out.push_str("{}");
                    while signs.next_if(|next| *next != '}').is_some() {}
                    signs.next();
                }
                sign => out.push(sign),
            }
        }
        Some(out)
    }

    /// The texts in a file, but for tests, documentation, `expect` and some macros. `only_errors`: of the texts, those
    /// of `#[error("…")]`.
    fn texts(tokens: TokenStream, only_errors: bool, out: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let word = |index: Option<usize>| {
            index.and_then(|index| tokens.get(index)).map(ToString::to_string).unwrap_or_default()
        };
        for (index, token) in tokens.iter().enumerate() {
            let before = word(index.checked_sub(1));
            match token {
                TokenTree::Group(group) => {
                    let content = group.stream();
                    let is_inner = before == "!" && word(index.checked_sub(2)) == "#";
                    let is_attribute =
                        (before == "#" || is_inner) && group.delimiter() == Delimiter::Bracket;
                    let text = content.to_string().replace(' ', "");
                    let is_error = is_attribute && text.starts_with("error(");
                    if is_attribute && text == "cfg(test)" {
                        return;
                    }
                    let macro_name = word(index.checked_sub(2));
                    let is_unshown = before == "expect"
                        || before == "!" && UNSHOWN.contains(&macro_name.as_str())
                        || is_attribute && !is_error;
                    if !is_unshown {
                        texts(content, only_errors && !is_error, out);
                    }
                }
                TokenTree::Literal(literal) if !only_errors => {
                    out.extend(with_blanks(&literal.to_string()).filter(|text| text.contains(' ')));
                }
                _ => {}
            }
        }
    }

    fn texts_of(file: &Path, only_errors: bool) -> Vec<String> {
        let source = std::fs::read_to_string(file).unwrap();
        let mut found = Vec::new();
        texts(source.parse().unwrap(), only_errors, &mut found);
        found
    }

    #[test]
    fn every_sentence_about_end_to_end_rooms_has_a_spanish_one() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        let folders = [("client/end_to_end", false), ("client/commands", false), ("mls", true)];
        for (folder, only_errors) in folders {
            for entry in std::fs::read_dir(source.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|ending| ending == "rs") {
                    found.extend(texts_of(&path, only_errors));
                }
            }
        }
        for file in ["policy/commit_rules", "protocol/envelope", "crypto/device_certificate"] {
            found.extend(texts_of(&source.join(file).with_extension("rs"), true));
        }
        assert!(found.len() > 120, "the sources were read: {}", found.len());
        found.retain(|text| {
            let is_known = all().any(|(english, _)| english == text);
            !is_known && !LEFT_OUT.contains(&text.as_str())
        });
        assert!(found.is_empty(), "without a Spanish sentence: {found:#?}");
    }

    #[test]
    fn every_sentence_is_found_with_its_blanks() {
        for (english, spanish) in all() {
            let count = english.matches("{}").count();
            assert_eq!(count, spanish.matches("{}").count(), "{english}");
            assert!(english.chars().any(char::is_alphabetic), "{english}");
            let values: Vec<String> = (1..=count).map(|number| format!("v{number}")).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(sentence(&fill(english, &values)), Some(fill(spanish, &values)));
        }
        assert_eq!(sentence("something else"), None);
    }

    #[test]
    fn a_reason_inside_a_sentence_is_translated_too() {
        let text = "#7 of +ops, a change by eve, does not count: its author is not in the room";
        let spanish = "#7 de +ops, un cambio de eve, no cuenta: su autor no está en la sala";
        assert_eq!(sentence(text).as_deref(), Some(spanish));
    }
}
