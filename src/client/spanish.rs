//! Failures in Spanish. The English sentences belong to the errors themselves; the enums are matched
//! exhaustively, so that no new error lacks a sentence. Reasons that come as text are looked up in
//! [`REASONS`].

use rustix::io::Errno;

use super::blanks::{fill, match_blanks};
use super::failure::{Attempt, Failure, Refusal};
use super::spanish_end_to_end;
use crate::net::dial::DialError;
use crate::protocol::code::ErrorCode;

/// Why a conversation ended.
pub fn failure(failure: &Failure) -> String {
    match failure {
        Failure::Dial(error) => dial_error(error),
        Failure::NoSession { server, timeout, attempt: last, asked_pause, .. } => {
            let (what, timeout) = (attempt(last, server), humantime::format_duration(*timeout));
            match asked_pause {
                Some(pause) => {
                    let pause = humantime::format_duration(*pause);
                    format!(
                        "{what}; pide una pausa de {pause}, más larga que --timeout ({timeout})"
                    )
                }
                None if last.found_nothing() => {
                    format!("{what}; abandonado tras {timeout}; ¿está en marcha el servidor?")
                }
                None => format!("{what}; abandonado tras {timeout}"),
            }
        }
        Failure::NotWebSocket { server, .. } => format!("{server} no habla WebSocket"),
        Failure::OtherProtocol { server, .. } => format!("{server} habla otro protocolo"),
        Failure::NoHistory => {
            "este servidor solo habla el protocolo básico y no guarda historial".to_owned()
        }
        Failure::NoProgress { room } => {
            format!("el servidor no envía más del historial de {room} y no dice que termine")
        }
        Failure::TooLarge(_) => "el servidor envió un mensaje demasiado grande".to_owned(),
        Failure::Closed { code, reason, .. } if reason.is_empty() && closed(code).is_none() => {
            format!("el servidor cerró la conexión ({code})")
        }
        Failure::Closed { code, reason, .. } => {
            let reason = error(code).or_else(|| closed(code)).unwrap_or(reason);
            format!("el servidor cerró la conexión: {reason} ({code})")
        }
        Failure::Unacked { timeout, refusal: None } => {
            let timeout = humantime::format_duration(*timeout);
            format!("abandonado tras {timeout}; quizá no todo está guardado")
        }
        Failure::Unacked { timeout, refusal: Some(said) } => {
            let timeout = humantime::format_duration(*timeout);
            let reason = refusal(said);
            format!("el servidor no admite mensajes ahora: {reason}; abandonado tras {timeout}")
        }
        Failure::Incomplete { timeout, printed } => {
            let timeout = humantime::format_duration(*timeout);
            format!("abandonado tras {timeout}; solo llegaron {printed} mensajes")
        }
        Failure::Cursor(reason) => reason.clone(),
        Failure::Output { reason } => {
            let reason = translated(reason, "la escritura falló");
            format!("no se puede escribir en la salida estándar: {reason}")
        }
        Failure::EndToEnd(problem) => end_to_end(&problem.text),
        Failure::Signal(signal) => format!("terminado por {signal}"),
    }
}

/// A sentence about end-to-end rooms; as it is if it is none.
pub fn end_to_end(text: &str) -> String {
    spanish_end_to_end::sentence(text).unwrap_or_else(|| text.to_owned())
}

/// Why an attempt to connect led to no session.
pub fn attempt(attempt: &Attempt, server: &str) -> String {
    match attempt {
        Attempt::Unfinished => format!("{server} aún no ha respondido"),
        Attempt::Failed(error) => dial_error(error),
        Attempt::Unanswered => format!("{server} acepta la conexión y no responde"),
        Attempt::Dropped => format!("{server} termina la conexión sin responder"),
        Attempt::Refused(said) => {
            format!("el servidor no dejó entrar al cliente: {}", refusal(said))
        }
        Attempt::AfterSession => format!("{server} terminó la conexión"),
    }
}

/// Why the server refuses something.
fn refusal(refusal: &Refusal) -> String {
    let Refusal { code, text } = refusal;
    let text = error(code).or_else(|| closed(code)).unwrap_or(text);
    format!("{text} ({code})")
}

/// Why an attempt to connect failed.
pub fn dial_error(error: &DialError) -> String {
    match error {
        DialError::Unreachable { target, reason } => {
            let reason = translated(reason, "la conexión falló");
            format!("no se puede llegar a {target}: {reason}")
        }
        DialError::NoAddress { target, reason } => {
            let reason = translated(reason, "la resolución del nombre falló");
            format!("no se encuentra {target}: {reason}; revisa la dirección, o la red")
        }
        DialError::Proxy { target, proxy, reason, .. } => {
            let reason = translated(reason, "el proxy no conecta");
            format!("no se puede llegar a {target} por el proxy {proxy}: {reason}")
        }
        DialError::UrlFile { file, reason } => {
            let (file, reason) = (file.display(), translated(reason, "no contiene una dirección"));
            format!(
                "{file}: {reason}; --url-file debe nombrar un archivo con la dirección de un servidor"
            )
        }
        DialError::ProxySettings(reason) => {
            let reason = translated(reason, "no es la dirección de un proxy");
            format!("HTTPS_PROXY, ALL_PROXY o NO_PROXY: {reason}")
        }
        DialError::Untrusted { target, reason } => {
            let reason = translated(reason, "su certificado no es válido");
            format!("{target} no es de confianza: {reason}")
        }
        DialError::Refused { target, status, said, .. } => {
            format!("{target} rechaza la conexión: estado HTTP {status}{said}")
        }
        DialError::Redirected { target, status, location } => format!(
            "{target} no es un servidor de chat: remite (estado HTTP {status}) a {location}; si ese es el \
             servidor de chat, conéctate a él"
        ),
        DialError::WrongScheme { target, reason } => {
            let reason =
                translated(reason, "no habla lo que indica la dirección; prueba ws:// o wss://");
            format!("{target} {reason}")
        }
        DialError::ProxyDropsHeaders { target, headers } => format!(
            "el proxy delante de {target} no deja pasar {headers}; docs/proxy.md tiene las líneas para su \
             configuración"
        ),
        DialError::NotChatServer { target, reason } => {
            let reason = translated(reason, "su respuesta no es WebSocket");
            format!("{target} no es un servidor de chat: {reason}")
        }
        DialError::CaFile { file, reason } => {
            let (file, reason) = (file.display(), translated(reason, "no se puede leer"));
            format!("{file}: {reason}; --ca-file debe nombrar un archivo PEM con certificados")
        }
    }
}

/// What the code of an `error` frame means; `None` for a code that this client does not know.
pub fn error(code: &str) -> Option<&'static str> {
    let code = ErrorCode::ALL.iter().find(|known| known.as_str() == code)?;
    Some(match code {
        ErrorCode::BadJson
        | ErrorCode::BadFrame
        | ErrorCode::UnknownType
        | ErrorCode::BinaryFrame => "el servidor no entendió la petición",
        ErrorCode::NotRegistered | ErrorCode::AlreadyRegistered | ErrorCode::BadProtocol => {
            "el servidor no aceptó el registro"
        }
        ErrorCode::RegisterTimeout => "el registro tardó demasiado",
        ErrorCode::EmptyMessage => "el mensaje está vacío",
        ErrorCode::MessageTooLong => "el mensaje es demasiado largo",
        ErrorCode::NotUtf8 => "el mensaje no es UTF-8",
        ErrorCode::BadToken | ErrorCode::StaleKey => {
            "el mensaje no se cifró con la clave de la sala"
        }
        ErrorCode::ClockSkew => "el reloj de este equipo no va bien",
        ErrorCode::RateLimited => "demasiados intentos; vuelve a intentarlo más tarde",
        ErrorCode::BadRoom => "ese nombre de sala no es válido",
        ErrorCode::NotInRoom => "no estás en esa sala",
        ErrorCode::TooManyRooms => "estás en demasiadas salas; sal antes de una",
        ErrorCode::RoomsFull => "el servidor no admite más salas",
        ErrorCode::BadId => "el identificador del mensaje no es válido",
        ErrorCode::IdConflict => "otro mensaje tiene el mismo identificador",
        ErrorCode::Unauthorized => {
            "hace falta una clave de acceso válida; la crea quien administra el servidor"
        }
        ErrorCode::Forbidden => "no tienes permiso",
        ErrorCode::Muted => "quien administra el servidor no te deja escribir en esta sala",
        ErrorCode::Plaintext => "el servidor exige una conexión cifrada; usa wss://",
        ErrorCode::E2eOnly => "esa sala está cifrada de extremo a extremo",
        ErrorCode::StaleBase => "la sala ha cambiado; hay que cifrar el mensaje de nuevo",
        ErrorCode::NoKeyPackage => "esa persona aún no tiene claves en este servidor",
        ErrorCode::NoTree => "al servidor le falta el árbol de claves de la sala",
        ErrorCode::StorageFull => "el disco del servidor está lleno",
        ErrorCode::StorageFailed => "el servidor no puede usar su almacén ahora",
        ErrorCode::StorageUnknown => "no se sabe si el servidor guardó el mensaje",
        _ => return None,
    })
}

/// Reasons as the client writes them in English, and in Spanish; `{}` stands for the same text in both.
const REASONS: &[(&str, &str)] = &[
    ("no answer to the WebSocket handshake within {}", "sin respuesta al saludo WebSocket en {}"),
    (
        "no answer about the name {} from the resolver within {}",
        "el DNS no responde sobre {} en {}",
    ),
    ("no answer within {}", "sin respuesta en {}"),
    ("it closed the connection during the handshake", "cortó la conexión durante el saludo"),
    (
        "it closed the connection during the handshake; if it expects TLS, write wss://",
        "cortó la conexión durante el saludo; si espera TLS, escribe wss://",
    ),
    ("expects TLS; write {}", "espera TLS; escribe {}"),
    ("does not speak TLS; write {}", "no habla TLS; escribe {}"),
    (
        "does not speak TLS; it needs listen.tls in the server, or a proxy that ends TLS (docs/proxy.md)",
        "no habla TLS; necesita listen.tls en el servidor, o un proxy que termine TLS (docs/proxy.md)",
    ),
    (
        "the host name can't appear in a certificate; check the address",
        "ese nombre no puede estar en un certificado; revisa la dirección",
    ),
    ("it answered with HTTP status {}", "respondió con el estado HTTP {}"),
    ("Name or service not known", "no existe ningún servidor con ese nombre"),
    ("No address associated with hostname", "ese nombre no tiene dirección"),
    ("Temporary failure in name resolution", "la resolución de nombres no responde ahora"),
    (
        "its certificate expired on {}; ask its operator to renew it, or check the clock of this machine",
        "su certificado caducó el {}; pide a quien lo administra que lo renueve, o revisa el reloj de este equipo",
    ),
    (
        "its certificate is not valid before {}; check the clock of this machine",
        "su certificado no es válido antes del {}; revisa el reloj de este equipo",
    ),
    (
        "its certificate is for {}, not for {}; check the address",
        "su certificado es para {}, no para {}; revisa la dirección",
    ),
    (
        "no authority that this machine trusts signed its certificate, or the certificate chain is incomplete; \
         name its CA with --ca-file, or its certificate with --pin",
        "ninguna autoridad en la que este equipo confía firmó su certificado, o la cadena está incompleta; \
         nombra su CA con --ca-file, o su certificado con --pin",
    ),
    (
        "its certificate is signed with an algorithm that is not secure, such as SHA-1; ask its operator to \
         replace it",
        "su certificado está firmado con un algoritmo que no es seguro, como SHA-1; pide a quien lo administra \
         que lo cambie",
    ),
    (
        "a signature does not match its certificate, or its key is too short (RSA keys need at least 2048 \
         bits); ask its operator to replace it",
        "una firma no corresponde a su certificado, o su clave es demasiado corta (RSA exige 2048 bits); pide a \
         quien lo administra que lo cambie",
    ),
    (
        "its certificate is not the one of --pin; if its operator has replaced it, ask for the new fingerprint",
        "su certificado no es el de --pin; si quien lo administra lo ha cambiado, pide la nueva huella",
    ),
    (
        "its certificate is an authority's, not a server's; ask its operator to replace it, or trust this one \
         certificate with --pin",
        "su certificado es de una autoridad, no de un servidor; pide a quien lo administra que lo cambie, o \
         confía en ese certificado con --pin",
    ),
    (
        "a certificate in its chain signed another without being an authority's; ask its operator to replace \
         the chain",
        "un certificado de su cadena firmó otro sin ser de una autoridad; pide a quien lo administra que cambie \
         la cadena",
    ),
    (
        "its certificate is not meant for a server (extended key usage); ask its operator to replace it",
        "su certificado no está pensado para un servidor (extended key usage); pide a quien lo administra que lo \
         cambie",
    ),
    (
        "it redirects (HTTP status {}) and does not say where to",
        "remite (estado HTTP {}) y no dice a dónde",
    ),
    ("its answer is not HTTP", "su respuesta no es HTTP"),
    ("the head of its answer is too long", "la cabecera de su respuesta es demasiado larga"),
    ("it answered with HTTP 1.0", "respondió con HTTP 1.0"),
    (
        "its answer is no WebSocket handshake, because a header is missing or wrong",
        "su respuesta no es un saludo WebSocket, porque falta una cabecera o no es correcta",
    ),
    (
        "it asks for a client certificate, which chat-client does not have",
        "pide un certificado de cliente, que chat-client no tiene",
    ),
    (
        "it has no certificate for this name; check the address",
        "no tiene certificado para ese nombre; revisa la dirección",
    ),
    (
        "it has no version or cipher of TLS in common with this client, which needs TLS 1.2 or 1.3",
        "no tiene versión ni cifrado de TLS en común con este cliente, que necesita TLS 1.2 o 1.3",
    ),
    ("it broke the TLS handshake off", "interrumpió el saludo TLS"),
    (
        "its certificate expired; ask its operator to renew it, or check the clock of this machine",
        "su certificado caducó; pide a quien lo administra que lo renueve, o revisa el reloj de este equipo",
    ),
    (
        "its certificate is for another name; check the address",
        "su certificado es para otro nombre; revisa la dirección",
    ),
    (
        "its certificate was revoked; ask its operator to replace it",
        "su certificado fue revocado; pide a quien lo administra que lo cambie",
    ),
    ("is not a regular file", "no es un archivo normal"),
    ("it is no valid PEM", "no es PEM válido"),
    ("no certificate in the file", "no hay ningún certificado en el archivo"),
];

/// A reason in Spanish; `other` for one that is not known here, such as those of libraries.
fn translated(reason: &str, other: &str) -> String {
    if let Some(known) = system_error(reason) {
        return known.to_owned();
    }
    let known = REASONS.iter().find_map(|(english, spanish)| {
        let values = match_blanks(english, reason)?;
        Some(fill(spanish, &values))
    });
    known.unwrap_or_else(|| other.to_owned())
}

/// What a WebSocket close code means that comes without an `error` frame.
fn closed(code: &str) -> Option<&'static str> {
    Some(match code {
        "1000" | "1001" => "el servidor termina",
        "1002" | "1007" => "el servidor no entendió al cliente",
        "1008" => "el servidor no admite lo que envió el cliente",
        "1012" => "el servidor se reinicia",
        "1013" => "el servidor no puede atender al cliente ahora",
        "1009" => "el servidor no admite mensajes tan grandes",
        "4001" => "hace falta una clave de acceso válida",
        "4003" => "no tienes permiso",
        "4008" => "el registro tardó demasiado",
        _ => return None,
    })
}

/// The meaning of an error of the system, which the standard library prints with its number.
fn system_error(reason: &str) -> Option<&'static str> {
    let number = reason.rsplit_once("(os error ")?.1.split(')').next()?.parse().ok()?;
    Some(match Errno::from_raw_os_error(number) {
        Errno::CONNREFUSED => "conexión rechazada",
        Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE => "la conexión se cortó",
        Errno::TIMEDOUT => "sin respuesta",
        Errno::HOSTUNREACH | Errno::HOSTDOWN => "el equipo no es accesible",
        Errno::NETUNREACH | Errno::NETDOWN => "la red no es accesible",
        Errno::ADDRNOTAVAIL => "esa dirección no se puede usar aquí",
        Errno::ACCESS | Errno::PERM => "permiso denegado",
        Errno::NOENT => "no existe",
        Errno::ISDIR => "es un directorio",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reasons_are_translated_with_their_blanks() {
        for (english, spanish) in [
            ("Connection refused (os error 111)", "conexión rechazada"),
            ("it answered with HTTP status 404", "respondió con el estado HTTP 404"),
            (
                "its certificate is for a.example, b.example, not for c.example; check the address",
                "su certificado es para a.example, b.example, no para c.example; revisa la dirección",
            ),
            ("something else", "otra cosa"),
        ] {
            assert_eq!(translated(english, "otra cosa"), spanish);
        }
        for (english, spanish) in REASONS {
            assert_eq!(english.matches("{}").count(), spanish.matches("{}").count(), "{english}");
            assert_ne!(translated(&english.replace("{}", "7"), ""), "", "{english}");
        }
    }

    #[test]
    fn every_certificate_error_that_has_a_sentence_has_a_spanish_one() {
        use crate::net::tls_client::describe_certificate_error;
        use rustls::CertificateError::*;
        for error in [UnknownIssuer, BadSignature, ApplicationVerificationFailure] {
            let english = describe_certificate_error(&error);
            assert_ne!(translated(&english, ""), "", "{english}");
        }
    }

    #[test]
    fn every_code_and_every_failure_has_a_sentence() {
        for code in ErrorCode::ALL {
            assert!(code.is_of_http() || error(code.as_str()).is_some(), "{code:?}");
        }
        let timeout = Duration::from_secs(30);
        let closed =
            Failure::Closed { close_code: 4003, code: "forbidden".into(), reason: "no".into() };
        let no_session = |attempt| Failure::NoSession {
            server: "ws://h".into(),
            timeout,
            attempt: Box::new(attempt),
            asked_pause: None,
            was_registered: false,
        };
        assert_eq!(
            failure(&closed),
            "el servidor cerró la conexión: no tienes permiso (forbidden)"
        );
        let refusal = Refusal { code: "rooms_full".into(), text: "no".into() };
        assert_eq!(
            failure(&no_session(Attempt::Refused(refusal))),
            "el servidor no dejó entrar al cliente: el servidor no admite más salas (rooms_full); \
             abandonado tras 30s"
        );
        let silent = failure(&no_session(Attempt::Unanswered));
        assert_eq!(silent, "ws://h acepta la conexión y no responde; abandonado tras 30s");
        let nothing = failure(&no_session(Attempt::Unfinished));
        assert!(nothing.ends_with("; ¿está en marcha el servidor?"), "{nothing}");
    }
}
