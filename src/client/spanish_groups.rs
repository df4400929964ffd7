//! The Spanish for what the groups of end-to-end rooms say: evidence, what can't be read, and why a step fails.

/// English and Spanish, as in [`super::spanish_end_to_end`].
pub const GROUP_SENTENCES: &[(&str, &str)] = &[
    // What no honest server shows.
    (
        "the server describes {} as it was at #{}, and another device of this user had seen #{}",
        "el servidor describe {} como era en #{}, y otro dispositivo tuyo había visto #{}",
    ),
    (
        "the tree of {} that the server sent is larger than any can be",
        "el árbol de {} que envió el servidor es mayor de lo posible",
    ),
    (
        "the tree of {} that the server sent at #{} is not the one it named",
        "el árbol de {} que envió el servidor en #{} no es el que había nombrado",
    ),
    (
        "the server sent a key for {}, whose messages it must not be able to read; nothing is encrypted with it",
        "el servidor envió una clave para {}, cuyos mensajes no debe poder leer; no se cifra nada con ella",
    ),
    (
        "the record of {} ends at #{}, and this device has read #{}",
        "el registro de {} termina en #{}, y este dispositivo ha leído #{}",
    ),
    (
        "the record of {} is not the one that this device has read up to #{}: the server lost or restored it, or shows another one",
        "el registro de {} no es el que este dispositivo ha leído hasta #{}: el servidor lo perdió o lo restauró, o muestra otro",
    ),
    (
        "the server says that the record of {} goes on to #{}, and hands out nothing after #{}",
        "el servidor dice que el registro de {} llega a #{}, y no entrega nada después de #{}",
    ),
    (
        "the server left out #{} to #{} of {}, and names no reason",
        "el servidor omitió de #{} a #{} de {}, y no dice por qué",
    ),
    (
        "#{} of {} changes nothing: it says that it is a change by {}, and is none by any member",
        "#{} de {} no cambia nada: dice ser un cambio de {}, y no lo es de ningún miembro",
    ),
    ("#{} of {}, a change by {}, does not count: {}", "#{} de {}, un cambio de {}, no cuenta: {}"),
    (
        "the key package of {}'s device {} is not signed by {}: {}",
        "el paquete de claves de {}, dispositivo {}, no está firmado por {}: {}",
    ),
    (
        "the server gave a key package of {}'s device {} as one of {}'s device {}",
        "el servidor dio un paquete de claves de {}, dispositivo {}, como si fuera de {}, dispositivo {}",
    ),
    (
        "the server says that #{} of {} is from {}, and it is from {}",
        "el servidor dice que #{} de {} es de {}, y es de {}",
    ),
    (
        "the server gave #{} of {}, which is from {}, another id than {} did",
        "el servidor dio a #{} de {}, que es de {}, otro identificador que {}",
    ),
    (
        "the server says that #{} of {} was written after the change at #{}, and that was at #{}",
        "el servidor dice que #{} de {} se escribió tras el cambio en #{}, y ese fue en #{}",
    ),
    (
        "the server says that #{} of {} is {}, and it is {}",
        "el servidor dice que #{} de {} es {}, y es {}",
    ),
    ("a message", "un mensaje"),
    ("a change of the group", "un cambio del grupo"),
    (
        "the server replayed a message: #{} of {} was there before, at another place",
        "el servidor repitió un mensaje: #{} de {} ya estaba antes, en otro lugar",
    ),
    (
        "#{} of {} has number {} of {}'s device, which another message had before",
        "#{} de {} tiene el número {} del dispositivo de {}, que ya tuvo otro mensaje",
    ),
    (
        "#{} of {} is an old message of {} (number {}) at a new place",
        "#{} de {} es un mensaje antiguo de {} (número {}) en un lugar nuevo",
    ),
    (
        "{} and this device were shown different records of {} before #{} (seen at #{})",
        "a {} y a este dispositivo se les mostraron registros distintos de {} antes de #{} (visto en #{})",
    ),
    (
        "#{} of {}, which the server says is from {}, is not for the group that this device is in: it was changed, or \
         {} was shown other changes of the members",
        "#{} de {}, que según el servidor es de {}, no es para el grupo en que está este dispositivo: fue modificado, o \
         a {} se le mostraron otros cambios de los miembros",
    ),
    (
        "messages {} to {} of {}'s device are missing in {}, and {} has said much since (seen at #{})",
        "faltan los mensajes {} a {} del dispositivo de {} en {}, y {} ha dicho mucho desde entonces (visto en #{})",
    ),
    // Why an entry can't be read, or does not count.
    ("a change that does not count: {}", "un cambio que no cuenta: {}"),
    ("it is not a valid commit of this room", "no es un cambio válido de esta sala"),
    ("it is from somebody who is not in the room", "es de alguien que no está en la sala"),
    ("it does not state when it was made", "no dice cuándo se hizo"),
    ("it is not an encrypted message", "no es un mensaje cifrado"),
    ("it was not encrypted for this device", "no se cifró para este dispositivo"),
    ("it was shown before", "ya se mostró antes"),
    ("it comes too late or too early", "llega demasiado tarde o demasiado pronto"),
    (
        "it was changed, or is not signed by its author",
        "fue modificado, o no está firmado por su autor",
    ),
    ("the certificate of its author is not valid", "el certificado de su autor no es válido"),
    ("its author is not in the room", "su autor no está en la sala"),
    ("it has a proposal that is not allowed", "contiene una propuesta no permitida"),
    ("the certificate of a device is not valid", "el certificado de un dispositivo no es válido"),
    (
        "it gives its author another name, key or device",
        "da a su autor otro nombre, otra clave u otro dispositivo",
    ),
    (
        "its author may not add devices of other users",
        "su autor no puede añadir dispositivos de otras personas",
    ),
    (
        "its author may not remove devices of other users",
        "su autor no puede retirar dispositivos de otras personas",
    ),
    ("it removes a device that it can't remove", "retira un dispositivo que no puede retirar"),
    (
        "its author may not change the terms of the room",
        "su autor no puede cambiar las reglas de la sala",
    ),
    ("it changes what can't change in a room", "cambia lo que no puede cambiar en una sala"),
    ("it does not note the device that it removes", "no anota el dispositivo que retira"),
    ("it leaves the room without an admin", "deja la sala sin nadie que la administre"),
    (
        "it gives a user two keys, or a key two users",
        "da a una persona dos claves, o a una clave dos personas",
    ),
    ("it adds a device that is in the room", "añade un dispositivo que ya está en la sala"),
    ("it adds a device that was removed", "añade un dispositivo que fue retirado"),
    (
        "a device of a user who is not in the room let itself in",
        "entró por su cuenta un dispositivo de alguien que no está en la sala",
    ),
    (
        "a device that let itself in changed something else",
        "un dispositivo que entró por su cuenta cambió algo más",
    ),
    (
        "it brings a third user into direct messages",
        "mete a una tercera persona en los mensajes directos",
    ),
    ("it brings more than {} devices into the room", "mete más de {} dispositivos en la sala"),
    // Why a step fails.
    ("this device is not in the room", "este dispositivo no está en la sala"),
    ("this device is not in the room yet", "este dispositivo aún no está en la sala"),
    (
        "the state of this device is older than what it has said",
        "el estado de este dispositivo es más antiguo que lo que ha dicho",
    ),
    ("the id was used for something else", "el identificador se usó para otra cosa"),
    ("a change of the room is under way", "hay un cambio de la sala en curso"),
    (
        "these are more devices than one change can add",
        "son más dispositivos de los que un cambio puede añadir",
    ),
    ("the change is not allowed: {}", "el cambio no está permitido: {}"),
    ("the server sent something malformed", "el servidor envió algo mal formado"),
    ("the invitation is not valid", "la invitación no es válida"),
    ("the description of the room is not valid", "la descripción de la sala no es válida"),
    (
        "the key package is malformed or not signed by its device",
        "el paquete de claves está mal formado o no lo firmó su dispositivo",
    ),
    (
        "the key package has no valid certificate",
        "el paquete de claves no tiene un certificado válido",
    ),
    (
        "the key package has expired, or is not valid yet",
        "el paquete de claves ha caducado, o aún no es válido",
    ),
    ("the device certificate is malformed", "el certificado del dispositivo está mal formado"),
    (
        "the device certificate is not signed by the user's key",
        "el certificado del dispositivo no está firmado con la clave del usuario",
    ),
    (
        "the device certificate belongs to another device",
        "el certificado del dispositivo es de otro dispositivo",
    ),
    ("the device certificate is not valid yet", "el certificado del dispositivo aún no es válido"),
    ("the device certificate has expired", "el certificado del dispositivo ha caducado"),
    ("the device certificate has expired: {}", "el certificado del dispositivo ha caducado: {}"),
    (
        "the device certificate is not valid yet: {}",
        "el certificado del dispositivo aún no es válido: {}",
    ),
    ("the message has no readable content", "el mensaje no tiene contenido legible"),
    (
        "the message was written by a newer chat-client",
        "el mensaje lo escribió un chat-client más nuevo",
    ),
    ("the message is too long", "el mensaje es demasiado largo"),
    ("the file is not the state of a device", "el archivo no es el estado de un dispositivo"),
    (
        "the state of this device was written by a newer chat-client",
        "el estado de este dispositivo lo escribió un chat-client más nuevo",
    ),
    (
        "the state of this device is sealed with another key",
        "el estado de este dispositivo está sellado con otra clave",
    ),
    ("the state of this device is damaged: {}", "el estado de este dispositivo está dañado: {}"),
    ("the state of this device: {}", "el estado de este dispositivo: {}"),
    ("the encryption of the room failed: {}", "falló el cifrado de la sala: {}"),
    (
        "a stored value of an end-to-end room is damaged",
        "un valor guardado de una sala cifrada de extremo a extremo está dañado",
    ),
    (
        "a stored value of an end-to-end room does not open with this key",
        "un valor guardado de una sala cifrada de extremo a extremo no se abre con esta clave",
    ),
    (
        "end-to-end rooms do not store this",
        "las salas cifradas de extremo a extremo no guardan esto",
    ),
    (
        "{} can be read by other users; to close it: chmod {} {}",
        "{} lo pueden leer otros usuarios; para cerrarlo: chmod {} {}",
    ),
    ("{} belongs to another user", "{} es de otro usuario"),
    // The least certain one is the last.
    ("{} is not a {}", "{} no es lo que debe ser ({})"),
];
