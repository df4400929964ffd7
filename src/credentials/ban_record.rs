//! The bans and mutes in the access file.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::policy::ban_term::Term;
use crate::policy::bans::Restriction;
use crate::policy::ip_network::IpNetwork;
use crate::protocol::{RoomName, Timestamp, UserName};

/// Characters in the reason for a ban, at most.
pub const MAX_WHY_CHARS: usize = 200;

/// An entry of `banned` or `muted` in the access file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum BanEntry {
    /// Only a user's name, as files of earlier versions have it and people write it by hand.
    Name(String),
    /// With what else is known.
    Record(Box<BanRecord>),
}

/// A ban has one of `user`, `address` and `network`; a mute has `user`, and `room` unless it is for
/// every room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRecord {
    /// The user's name; names that look the same are banned too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// An IP address. Of an IPv6 address the /64 is banned, which limits count as one client too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A network in CIDR notation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The room of a mute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The reason, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The operator that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl BanEntry {
    /// The ban that this entry of `banned` stands for; `None` if it is a text that can't be in a name.
    /// The error names the field that is wrong.
    pub fn ban(&self) -> Result<Option<Restriction>, String> {
        let record = match self {
            BanEntry::Name(name) => return Ok(banned_user(name).map(Restriction::BanUser)),
            BanEntry::Record(record) => record,
        };
        if record.room.is_some() {
            return Err("room belongs only to an entry of muted".into());
        }
        record.check()?;
        match (&record.user, &record.address, &record.network) {
            (Some(user), None, None) => Ok(Some(Restriction::BanUser(parse_user(user)?))),
            (None, Some(address), None) => {
                let address = address.parse().map_err(|_| {
                    format!("address: {address:?} is not an IP address, as in \"203.0.113.7\"")
                })?;
                Ok(Some(Restriction::BanNetwork(IpNetwork::of_client(address))))
            }
            (None, None, Some(network)) => {
                let parsed = IpNetwork::parse(network).ok_or_else(|| {
                    format!("network: {network:?} is not a network, as in \"203.0.113.0/24\"")
                })?;
                Ok(Some(Restriction::BanNetwork(parsed.normalized())))
            }
            _ => Err("exactly one of user, address and network must be there".into()),
        }
    }

    /// The same for an entry of `muted`.
    pub fn mute(&self) -> Result<Option<Restriction>, String> {
        let record = match self {
            BanEntry::Name(name) => {
                return Ok(banned_user(name).map(|user| Restriction::Mute(user, None)));
            }
            BanEntry::Record(record) => record,
        };
        record.check()?;
        if record.address.is_some() || record.network.is_some() {
            return Err("only users can be muted, not addresses".into());
        }
        let user = record.user.as_ref().ok_or("user must be there")?;
        let room = match &record.room {
            None => None,
            Some(room) => {
                Some(RoomName::parse(room).ok_or_else(|| format!("room: {}", RoomName::RULE))?)
            }
        };
        Ok(Some(Restriction::Mute(parse_user(user)?, room)))
    }

    /// For how long it was made.
    pub fn term(&self) -> Term {
        match self {
            BanEntry::Name(_) => Term::default(),
            BanEntry::Record(record) => Term { since: record.since, until: record.until },
        }
    }
}

impl BanRecord {
    /// The record of a restriction; the other fields are empty.
    pub fn of(restriction: &Restriction) -> Self {
        let mut record = BanRecord::default();
        match restriction {
            Restriction::BanUser(user) => record.user = Some(user.to_string()),
            Restriction::BanNetwork(network) => record.network = Some(network.to_string()),
            Restriction::Mute(user, room) => {
                record.user = Some(user.to_string());
                record.room = room.as_ref().map(RoomName::to_string);
            }
        }
        record
    }

    fn check(&self) -> Result<(), String> {
        if let Some(why) = &self.why {
            check_why(why).map_err(|reason| format!("why {reason}"))?;
        }
        match (self.since, self.until) {
            (Some(since), Some(until)) if until <= since => Err("until must be after since".into()),
            _ => Ok(()),
        }
    }
}

/// Refuses a reason that is too long, or would act on a terminal.
pub fn check_why(why: &str) -> Result<(), String> {
    let acts_on_terminal = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if why.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if why.chars().any(acts_on_terminal) {
        return Err("must be one line without control characters".into());
    }
    match why.chars().count() {
        0..=MAX_WHY_CHARS => Ok(()),
        count => Err(format!("must have at most {MAX_WHY_CHARS} characters; this has {count}")),
    }
}

/// The user that a name in the file means; `None` if nothing of it can be in a name.
fn banned_user(entry: &str) -> Option<UserName> {
    let cleaned = UserName::clean(entry);
    // Cleaning gives an entry without any usable character the name of users who give none.
    let is_default = cleaned == UserName::clean("") && UserName::parse(entry).is_err();
    (!is_default).then_some(cleaned)
}

fn parse_user(text: &str) -> Result<UserName, String> {
    UserName::parse(text).map_err(|error| format!("user: {error}"))
}

impl<'de> Deserialize<'de> for BanEntry {
    /// By hand, because an error of an untagged enum does not name the field.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = BanEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user's name or an object")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<BanEntry, E> {
                Ok(BanEntry::Name(name.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<BanEntry, M::Error> {
                let record = BanRecord::deserialize(MapAccessDeserializer::new(map))?;
                Ok(BanEntry::Record(Box::new(record)))
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Result<BanEntry, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn an_entry_without_a_usable_character_bans_nobody() {
        for name in ["", " ", "@@@", "\u{200b}"] {
            assert_eq!(BanEntry::Name(name.into()).ban(), Ok(None), "{name:?}");
        }
        for name in ["eve", " eve ", "Anónimo"] {
            let user = Restriction::BanUser(UserName::clean(name));
            assert_eq!(BanEntry::Name(name.into()).ban(), Ok(Some(user)), "{name:?}");
        }
    }

    #[test]
    fn each_form_of_an_entry_is_read_and_written_alike() {
        for (json, shown) in [
            (r#""eve""#, "BanUser(eve)"),
            (r#"{"user":"eve"}"#, "BanUser(eve)"),
            (r#"{"address":"203.0.113.7","why":"spam"}"#, "203.0.113.7/32"),
            (r#"{"address":"2001:db8::7"}"#, "2001:db8::/64"),
            (r#"{"network":"203.0.113.7/24"}"#, "203.0.113.0/24"),
            (r#"{"network":"::ffff:203.0.113.0/120"}"#, "203.0.113.0/24"),
            (
                r#"{"user":"eve","since":"2026-01-01T00:00:00.000000Z","until":"2026-01-01T01:00:00.000000Z","by":"uid 0"}"#,
                "BanUser(eve)",
            ),
        ] {
            let read = entry(json).unwrap();
            let ban = match read.ban().unwrap().unwrap() {
                Restriction::BanNetwork(network) => network.to_string(),
                Restriction::BanUser(user) => format!("BanUser({user})"),
                other => panic!("{other:?}"),
            };
            assert_eq!((ban.as_str(), serde_json::to_string(&read).unwrap()), (shown, json.into()));
        }
        let mute = entry(r#"{"user":"bob","room":"ops"}"#).unwrap().mute().unwrap();
        let ops = RoomName::parse("ops");
        assert_eq!(mute, Some(Restriction::Mute(UserName::clean("bob"), ops)));
    }

    #[test]
    fn a_wrong_entry_is_an_error_that_names_the_field() {
        for (json, named) in [
            ("7", "a user's name or an object"),
            ("[]", "a user's name or an object"),
            (r#"{"user":"eve","x":1}"#, "unknown field `x`"),
            (r#"{"user":7}"#, "expected a string"),
            (r#"{"user":"eve","until":"tomorrow"}"#, "RFC 3339"),
        ] {
            let error = entry(json).unwrap_err().to_string();
            assert!(error.contains(named), "{json}: {error}");
        }
        for (json, named) in [
            ("{}", "exactly one of user, address and network"),
            (r#"{"user":"eve","address":"203.0.113.7"}"#, "exactly one of"),
            (r#"{"user":"@@@"}"#, "user: "),
            (r#"{"address":"203.0.113.0/24"}"#, "address: "),
            (r#"{"network":"here"}"#, "network: "),
            (r#"{"user":"eve","room":"ops"}"#, "room belongs only"),
            (r#"{"user":"eve","why":"a\nb"}"#, "why must be one line"),
            (
                r#"{"user":"eve","since":"2026-01-01T00:00:00Z","until":"2026-01-01T00:00:00Z"}"#,
                "until must be after since",
            ),
        ] {
            let error = entry(json).unwrap().ban().unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
        for (json, named) in [
            ("{}", "user must be there"),
            (r#"{"user":"eve","room":"Bad Room"}"#, "room: "),
            (r#"{"user":"eve","network":"203.0.113.0/24"}"#, "only users can be muted"),
        ] {
            let error = entry(json).unwrap().mute().unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_a_bounded_length() {
        assert!(check_why("spam in #ops — señor").is_ok());
        assert!(check_why(&"é".repeat(MAX_WHY_CHARS)).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(MAX_WHY_CHARS + 1)] {
            assert!(check_why(bad).is_err(), "{bad:?}");
        }
    }
}
