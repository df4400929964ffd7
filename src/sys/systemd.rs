//! Notifications to the service manager (sd_notify(3)). Without a service manager they do nothing.
//!
//! The socket holds about ten notifications. If it is full because the service manager does not read them,
//! the server drops a notification that is repeated anyway, and waits only with [`ready`].

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the status line is updated, at least.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest watchdog interval, so that a tiny `WatchdogSec=` does not keep the server busy.
const MIN_WATCHDOG_INTERVAL: Duration = Duration::from_millis(50);
/// How long the server waits for the service manager to take the notification that it is ready, which is
/// not repeated.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reports that the server accepts connections.
pub fn ready() {
    notify_within(READY_TIMEOUT, &[NotifyState::Ready]);
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
    notify_within(Duration::ZERO, states);
}

fn notify_within(timeout: Duration, states: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let mut text = String::new();
    for state in states {
        let _ = writeln!(text, "{state}");
    }
    if let Err(error) = send(&socket, &text, timeout) {
        tracing::debug!(
            event = "notify_failed",
            reason = %error,
            "can't send a notification to the service manager"
        );
    }
}

/// Sends a datagram to a socket in the file system or, with `@`, in the abstract namespace.
fn send(socket: &OsStr, text: &str, timeout: Duration) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    match timeout {
        Duration::ZERO => datagram.set_nonblocking(true)?,
        timeout => datagram.set_write_timeout(Some(timeout))?,
    }
    datagram.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_that_reads_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let send = |timeout| send(path.as_os_str(), "STATUS=x\n", timeout);
        let sent = (0..10_000).take_while(|_| send(Duration::ZERO).is_ok()).count();
        assert!(sent > 0 && sent < 10_000, "{sent}");
        let begun = std::time::Instant::now();
        let error = send(Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let mut bytes = [0; 64];
        let size = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..size], b"STATUS=x\n");
        send(Duration::ZERO).unwrap();
    }

    #[test]
    fn the_socket_may_be_in_the_abstract_namespace() {
        let name = format!("chat-server-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1\n", READY_TIMEOUT).unwrap();
        let mut bytes = [0; 64];
        assert_eq!(manager.recv(&mut bytes).unwrap(), 8);
    }
}
