//! The query of an HTTP request that reads a room: `?since=10m&limit=50`.

use percent_encoding::percent_decode_str;

use super::request::RequestError;
use crate::conversation::since::Since;
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{Epoch, ErrorCode, Seq, UserName};

/// Messages of a request that names neither a limit nor a start.
pub const DEFAULT_LIMIT: u64 = 100;

/// Where reading begins, or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The newest messages.
    Newest,
    /// The newest messages before this one.
    Before(Seq),
    /// The messages after this one, of the record with this epoch if the reader names it.
    After(Seq, Option<Epoch>),
    /// The messages since a moment, or all.
    Since(Since),
}

/// A valid query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomQuery {
    /// Where to begin.
    pub start: Start,
    /// The most messages; `None` is all.
    pub limit: Option<u64>,
    /// The name of the user in open mode.
    pub user: Option<UserName>,
    /// Whether the answer goes on with the messages to come.
    pub follow: bool,
}

impl RoomQuery {
    /// Makes the answer go on with the messages to come. Then it can't end before a message, or after some.
    pub fn follow(&mut self) -> Result<(), RequestError> {
        self.follow = true;
        match self.start {
            Start::Before(_) => Err(bad("before", "an answer that follows the room has no end")),
            Start::After(..) | Start::Since(_) if self.limit.is_some() => Err(bad(
                "limit",
                "an answer that follows the room has no end; without since and after, it begins with that \
                 many messages",
            )),
            _ => Ok(()),
        }
    }

    /// Continues after an event that the reader has, by its id. It replaces the start in the query,
    /// which a browser repeats when it reconnects.
    pub fn resume(&mut self, last_event_id: &str) -> Result<(), RequestError> {
        let position = last_event_id
            .rsplit_once('/')
            .and_then(|(epoch, seq)| Some((Epoch::parse(epoch)?, seq.parse().map(Seq).ok()?)));
        let Some((epoch, seq)) = position else {
            return Err(bad("Last-Event-ID", "expected the id of an event, EPOCH/SEQ"));
        };
        self.start = Start::After(seq, Some(epoch));
        self.limit = None;
        Ok(())
    }
}

/// Reads a query that names a user only, as that of a request which sends a message.
pub fn read_user(query: &str) -> Result<Option<UserName>, RequestError> {
    let mut user = None;
    for (name, value) in parameters(query)? {
        match name.as_str() {
            "user" => set(&mut user, &name, UserName::clean(&value))?,
            _ => return Err(unknown(&name, "user")),
        }
    }
    Ok(user)
}

/// Reads the query of a request that reads a room.
pub fn read(query: &str) -> Result<RoomQuery, RequestError> {
    let (mut since, mut after, mut before) = (None, None, None);
    let (mut epoch, mut limit, mut user, mut follow) = (None, None, None, None);
    for (name, value) in parameters(query)? {
        match name.as_str() {
            "since" => {
                let parsed = value.parse().map_err(|reason: String| bad(&name, &reason))?;
                set(&mut since, &name, parsed)?;
            }
            "after" => set(&mut after, &name, seq(&name, &value)?)?,
            "before" => set(&mut before, &name, seq(&name, &value)?)?,
            "epoch" => {
                let parsed = Epoch::parse(&value).ok_or_else(|| bad(&name, Epoch::RULE))?;
                set(&mut epoch, &name, parsed)?;
            }
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| *limit > 0);
                let parsed = parsed.ok_or_else(|| bad(&name, "expected a number above 0"))?;
                set(&mut limit, &name, parsed)?;
            }
            "user" => set(&mut user, &name, UserName::clean(&value))?,
            "follow" => {
                let parsed = value.parse().map_err(|_| bad(&name, "expected true or false"))?;
                set(&mut follow, &name, parsed)?;
            }
            _ => return Err(unknown(&name, "since, after, before, epoch, limit, follow and user")),
        }
    }
    if epoch.is_some() && after.is_none() {
        return Err(bad("epoch", "it belongs to after"));
    }
    let start = match (since, after, before) {
        (None, None, None) => Start::Newest,
        (Some(Since::After(seq)), None, None) => Start::After(seq, None),
        (Some(since), None, None) => Start::Since(since),
        (None, Some(seq), None) => Start::After(seq, epoch),
        (None, None, Some(seq)) => Start::Before(seq),
        _ => return Err(bad("since, after and before", "only one of them may be given")),
    };
    let limit = match start {
        Start::Newest | Start::Before(_) => Some(limit.unwrap_or(DEFAULT_LIMIT)),
        Start::After(..) | Start::Since(_) => limit,
    };
    Ok(RoomQuery { start, limit, user, follow: follow.unwrap_or(false) })
}

/// The names and values, decoded. `+` is a space, as HTML forms and most libraries write it.
fn parameters(query: &str) -> Result<Vec<(String, String)>, RequestError> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).ok()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            decode(name).zip(decode(value)).ok_or_else(|| bad("the query", "it is not UTF-8"))
        })
        .collect()
}

fn set<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), RequestError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(name, "it is given twice")),
    }
}

fn seq(name: &str, value: &str) -> Result<Seq, RequestError> {
    value.parse().map(Seq).map_err(|_| bad(name, "expected the seq of a message"))
}

fn unknown(name: &str, known: &str) -> RequestError {
    let lower = name.to_ascii_lowercase();
    if ["token", "access_token", "auth", "authorization", "password"].contains(&lower.as_str()) {
        return error(
            "an access token may not be in a URL, because URLs are logged; send it in the header \
             Authorization: Bearer"
                .to_owned(),
        );
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    error(format!("unknown parameter {shown:?}; known: {known}"))
}

fn bad(name: &str, reason: &str) -> RequestError {
    error(format!("{name}: {reason}"))
}

fn error(message: String) -> RequestError {
    Box::new(ErrorFrame::new(ErrorCode::BadQuery, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn the_start_is_one_of_four() {
        for (query, start, limit) in [
            ("", Start::Newest, Some(100)),
            ("limit=7&", Start::Newest, Some(7)),
            ("before=41", Start::Before(Seq(41)), Some(100)),
            ("after=41", Start::After(Seq(41), None), None),
            ("after=0&epoch=e&limit=2", Start::After(Seq(0), Epoch::parse("e")), Some(2)),
            ("since=41", Start::After(Seq(41), None), None),
            ("since=all", Start::Since(Since::All), None),
            ("since=1h+30m", Start::Since(Since::Ago(Duration::from_secs(5400))), None),
        ] {
            let read = read(query).unwrap();
            assert_eq!((read.start, read.limit), (start, limit), "{query}");
        }
        let user = read("user=Ana%20Mar%C3%ADa").unwrap().user.unwrap();
        assert_eq!(user.as_str(), "Ana María");
        assert_eq!(read_user("user=Bob").unwrap().unwrap().as_str(), "Bob");
    }

    #[test]
    fn an_answer_that_goes_on_has_no_end() {
        let mut query = read("limit=7&follow=true").unwrap();
        assert!(query.follow);
        assert_eq!((query.follow(), query.limit), (Ok(()), Some(7)));
        query.resume("a/b/41").unwrap();
        assert_eq!(query.start, Start::After(Seq(41), Epoch::parse("a/b")));
        assert!(query.follow().is_ok());
        for wrong in ["", "41", "/41", "a/", "a/x", "a/-1"] {
            assert!(
                query.resume(wrong).unwrap_err().message.starts_with("Last-Event-ID"),
                "{wrong}"
            );
        }
        for wrong in ["before=7", "since=all&limit=7", "after=3&limit=7"] {
            assert!(read(wrong).unwrap().follow().is_err(), "{wrong}");
        }
        assert!(read("follow=yes").is_err());
    }

    #[test]
    fn a_query_that_is_wrong_names_the_parameter() {
        for (query, word) in [
            ("since=yesterday", "since: expected"),
            ("after=-1", "after: expected"),
            ("before=x", "before: expected"),
            ("limit=0", "limit: expected"),
            ("limit=7&limit=8", "limit: it is given twice"),
            ("epoch=e", "epoch: it belongs to after"),
            ("after=1&since=2", "only one"),
            ("sincee=2", "unknown parameter \"sincee\""),
            ("access_token=x", "Authorization"),
            ("user=%ff", "not UTF-8"),
        ] {
            let error = read(query).unwrap_err();
            assert_eq!(error.code, "bad_query");
            assert!(error.message.contains(word), "{query}: {}", error.message);
        }
        assert!(read_user("limit=7").is_err());
    }

    proptest! {
        #[test]
        fn no_query_panics(query: String) {
            let _ = read(&query);
            let _ = read_user(&query);
        }
    }
}
