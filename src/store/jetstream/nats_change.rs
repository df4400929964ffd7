//! Leaving a server of the engine that is connected and does not answer, as one that is cut off from the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::{ReconnectToServer, Server, ServerInfo};
use parking_lot::Mutex;

/// The shortest time between two changes, because all logs ask for the same one.
const PAUSE: Duration = Duration::from_secs(4);

/// Chooses another server when the connection is made anew on purpose.
#[derive(Default)]
pub(super) struct ServerChange {
    is_wanted: AtomicBool,
    turn: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

impl ServerChange {
    /// Asks for another server with the next connection. False if that was asked for a moment ago.
    pub fn ask(&self, now: Instant) -> bool {
        let last = &mut *self.last.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            return false;
        }
        *last = Some(now);
        self.is_wanted.store(true, Ordering::Release);
        true
    }

    /// The server to connect to. `None` leaves the choice to the client library.
    pub fn choose(&self, servers: &[Server], left: &ServerInfo) -> Option<ReconnectToServer> {
        if !self.is_wanted.swap(false, Ordering::AcqRel) {
            return None;
        }
        // A server that listens at all addresses does not tell its own; then the turn alone decides.
        let is_other = |server: &&Server| {
            (server.addr.host(), server.addr.port()) != (left.host.as_str(), left.port)
        };
        let others: Vec<&Server> = servers.iter().filter(is_other).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let server = others.get(turn % others.len().max(1))?;
        Some(ReconnectToServer { addr: server.addr.clone(), delay: Some(Duration::ZERO) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_asked_for_once_in_a_while() {
        let (change, now) = (ServerChange::default(), Instant::now());
        assert!(change.ask(now));
        assert!(!change.ask(now + PAUSE - Duration::from_millis(1)));
        assert!(change.ask(now + PAUSE));
        assert!(change.choose(&[], &ServerInfo::default()).is_none());
    }
}
