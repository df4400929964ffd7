//! `ctl top`: the busiest users, rooms and client networks of the last minutes.

use std::time::Duration;

use serde::Serialize;

use crate::policy::client_network::ClientNetwork;
use crate::policy::heavy_hitters::Counts;
use crate::protocol::{RoomName, UserName};
use crate::server::context::Context;

/// What `ctl top --json` prints, the busiest first.
#[derive(Debug, Serialize)]
pub struct Top {
    /// How long the span is: whole minutes and the current one, but not longer than the server runs.
    seconds: u64,
    /// Whether counts may be too low, because more users, rooms or addresses were active in one
    /// minute than are tracked.
    lower_bounds: bool,
    users: Vec<User>,
    rooms: Vec<Room>,
    addresses: Vec<Address>,
}

#[derive(Debug, Serialize)]
struct User {
    user: UserName,
    messages: u64,
    frames: u64,
    bytes: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct Room {
    room: RoomName,
    messages: u64,
    bytes: u64,
    deliveries: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct Address {
    address: String,
    messages: u64,
    frames: u64,
    bytes: u64,
    refused: u64,
    connections: u64,
    connections_refused: u64,
}

/// The `count` busiest of each kind in at least the last `span`, as far as it is remembered.
pub fn top(context: &Context, span: Duration, count: usize) -> Top {
    let busiest = context.counters.activity.busiest(span);
    Top {
        seconds: busiest.span.as_secs(),
        lower_bounds: busiest.is_lossy,
        users: busiest.users.into_iter().take(count).map(user).collect(),
        rooms: busiest.rooms.into_iter().take(count).map(room).collect(),
        addresses: busiest.networks.into_iter().take(count).map(address).collect(),
    }
}

fn user((user, counts): (UserName, Counts)) -> User {
    let Counts { messages, frames, bytes, refused, .. } = counts;
    User { user, messages, frames, bytes, refused }
}

fn room((room, counts): (RoomName, Counts)) -> Room {
    let Counts { messages, bytes, deliveries, refused, .. } = counts;
    Room { room, messages, bytes, deliveries, refused }
}

fn address((network, counts): (ClientNetwork, Counts)) -> Address {
    let Counts { messages, frames, bytes, refused, connections, connections_refused, .. } = counts;
    let address = network.to_string();
    Address { address, messages, frames, bytes, refused, connections, connections_refused }
}
