//! Notifications to the service manager (sd_notify(3)). Without a service manager they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the status line is updated, at least.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest watchdog interval, so that a tiny `WatchdogSec=` does not keep the server busy.
const MIN_WATCHDOG_INTERVAL: Duration = Duration::from_millis(50);

/// Reports that the server accepts connections.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the server reloads its configuration; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Reports that a start or a stop goes on, and may take this much longer from now; `text` becomes the
/// status line.
pub fn extend_timeout(extension: Duration, text: &str) {
    let micros = u32::try_from(extension.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status(text)]);
}

/// Reports that the server is shutting down.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Sets the status line.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// The timer of the systemd watchdog and of the status line.
pub struct Watchdog {
    interval: Interval,
}

impl Watchdog {
    /// Ticks at a third of the watchdog timeout in the environment (`$WATCHDOG_USEC`), and every
    /// 10 seconds where the timeout is longer or there is none.
    pub fn from_environment() -> Self {
        let period = sd_notify::watchdog_enabled().map_or(STATUS_INTERVAL, |timeout| timeout / 3);
        let mut interval = interval(period.clamp(MIN_WATCHDOG_INTERVAL, STATUS_INTERVAL));
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Watchdog { interval }
    }

    /// Waits until the server's health is to be checked again. Cancel safe.
    pub async fn tick(&mut self) {
        self.interval.tick().await;
    }

    /// Reports that the server is healthy, and sets the status line.
    pub fn report_healthy(&mut self, status: &str) {
        notify(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(
            event = "notify_failed",
            reason = %error,
            "can't send a notification to the service manager"
        );
    }
}
