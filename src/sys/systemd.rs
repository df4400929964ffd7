//! What a service manager is told (sd_notify(3)). Without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Ready for connections.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reading the configuration again; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// On the way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The watchdog's clock: ticks at a third of the time systemd allows, and for the status line
/// where there is none.
pub struct Watchdog {
    ticks: Interval,
}

/// How often the status line is told where nothing asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(10);

impl Watchdog {
    /// By what systemd asked for in the environment.
    pub fn from_environment() -> Self {
        let every = sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |allowed| allowed / 3);
        let mut ticks = interval(every.clamp(Duration::from_millis(50), STATUS_EVERY));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Watchdog { ticks }
    }

    /// When it is time to look whether everything turns.
    pub async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// It does.
    pub fn feed(&mut self, text: &str) {
        tell(&[NotifyState::Watchdog, NotifyState::Status(text)]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(event = "notify_failed", reason = %error, "the service manager was not reached");
    }
}
