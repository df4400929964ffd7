//! The sessions that operators list and end.

use serde_json::{Value, json};

use super::ask::ask_hub;
use super::request::{SessionFilter, Target};
use crate::policy::confusable_names::is_confusable;
use crate::policy::ip_network::IpNetwork;
use crate::protocol::{RoomName, SessionId, UserName};
use crate::server::audit::{self, Operator};
use crate::server::context::Context;
use crate::server::rooms::command::{Command, SessionSelector};

/// Lists the sessions, by user, then by session id.
pub async fn list(context: &Context, filter: &SessionFilter) -> Result<Value, String> {
    let user = filter.user.as_deref().map(user_name).transpose()?;
    let room = filter.room.as_deref().map(room_name).transpose()?;
    let mut sessions = ask_hub(context, Command::Sessions).await?;
    sessions.retain(|session| {
        let is_of_user =
            user.as_ref().is_none_or(|user| is_confusable(&UserName::clean(&session.user), user));
        is_of_user && room.as_ref().is_none_or(|room| session.rooms.contains(room))
    });
    Ok(json!({"sessions": sessions}))
}

/// Ends sessions. It is an error if there is none to end.
pub async fn kick(context: &Context, by: Operator, target: &Target) -> Result<Value, String> {
    match end_sessions(context, by, target).await? {
        0 => Err(no_session(target)),
        ended => Ok(json!({"ended": ended})),
    }
}

/// Whether the request names something that can be kicked.
pub fn check(target: &Target) -> Result<(), String> {
    selector(target).map(drop)
}

/// Why nothing was ended.
pub fn no_session(target: &Target) -> String {
    let whose = selector(target).map(|selected| whose(&selected)).unwrap_or_default();
    format!("there is no session of {whose}; chat-server ctl sessions lists them")
}

/// Ends sessions of this node, and returns their number.
pub async fn end_sessions(
    context: &Context,
    by: Operator,
    target: &Target,
) -> Result<usize, String> {
    let selected = selector(target)?;
    let kicked = ask_hub(context, |answer| Command::Kick(selected.clone(), answer)).await;
    if kicked == Ok(0) {
        return Ok(0);
    }
    // The hub carries it out also after it has not answered in time.
    match &selected {
        SessionSelector::User(user) => audit::log_user_act("kick", user, by),
        SessionSelector::Session(session) => audit::log_kick(Some(session.as_str()), None, by),
        SessionSelector::Network(network) => {
            audit::log_kick(None, Some(&network.short()), by);
        }
    }
    kicked.map_err(|error| match &selected {
        SessionSelector::User(user) => format!("the sessions of {user} are still open: {error}"),
        _ => format!("the sessions of {} are still open: {error}", whose(&selected)),
    })
}

fn whose(selected: &SessionSelector) -> String {
    match selected {
        SessionSelector::User(user) => format!("the user {user}"),
        SessionSelector::Session(_) => "this id".to_owned(),
        SessionSelector::Network(network) if network.is_one_address() => {
            format!("the address {}", network.address())
        }
        SessionSelector::Network(network) => format!("the network {network}"),
    }
}

fn selector(target: &Target) -> Result<SessionSelector, String> {
    match target {
        Target { user: Some(user), address: None, network: None, session: None } => {
            Ok(SessionSelector::User(user_name(user)?))
        }
        Target { user: None, address: Some(address), network: None, session: None } => {
            let parsed =
                address.parse().map_err(|_| format!("{address:?} is not an IP address"))?;
            Ok(SessionSelector::Network(IpNetwork::of_client(parsed)))
        }
        Target { user: None, address: None, network: Some(network), session: None } => {
            let parsed = IpNetwork::parse(network);
            let parsed = parsed.ok_or_else(|| format!("{network:?} is not a network"))?;
            Ok(SessionSelector::Network(parsed.normalized()))
        }
        Target { user: None, address: None, network: None, session: Some(session) } => {
            SessionId::parse(session).map(SessionSelector::Session).ok_or(SessionId::RULE.into())
        }
        _ => Err("name exactly one of user, address, network and session".into()),
    }
}

/// The name as an operator typed it. A name that cleaning would change is refused, because the
/// request would be carried out for another user.
fn user_name(text: &str) -> Result<UserName, String> {
    UserName::parse(text).map_err(|error| error.to_string())
}

fn room_name(text: &str) -> Result<RoomName, String> {
    RoomName::parse(text).ok_or_else(|| RoomName::RULE.into())
}
