//! The status of the server, as the hub reports it.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::protocol::mask;
use crate::server::context::Context;
use crate::server::rooms::command::Command;
use crate::server::rooms::status::HubStatus;

/// How long a status line waits for the hub. `rooms::health` tells whether the hub hangs.
const HUB_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The text for operators when the hub does not answer.
pub const NO_ANSWER: &str = "the server does not answer; see its log";

/// Asks the hub for its status; `None` if it does not answer in time.
pub async fn query(context: &Context) -> Option<HubStatus> {
    let (answer, answered) = oneshot::channel();
    context.hub.send(Command::Status(answer)).ok()?;
    tokio::time::timeout(HUB_ANSWER_TIMEOUT, answered).await.ok()?.ok()
}

/// Logs the status (SIGUSR2).
pub async fn log(context: &Context) {
    let Some(status) = query(context).await else {
        tracing::error!(event = "status", "the hub does not answer");
        return;
    };
    tracing::info!(
        event = "status",
        sessions = status.sessions as u64,
        rooms = status.rooms as u64,
        connections = context.admission.count() as u64,
        messages = status.messages,
        deliveries = status.deliveries,
        rotations = status.rotations,
        seconds = context.started.elapsed().as_secs(),
        "{}",
        summary(&status)
    );
}

/// The longest text of a reload error in the status line; the server log has the whole.
const MAX_SHOWN_CHARS: usize = 300;

/// The status line for the service manager, as `systemctl status` shows it: what is wrong, then
/// the summary.
pub async fn line(context: &Context) -> String {
    let problems = context.problems();
    if !problems.is_empty() {
        return format!("not ready: {problems}");
    }
    let summary = query(context).await.map_or(NO_ANSWER.to_owned(), |status| summary(&status));
    match context.reload_state.error() {
        None => summary,
        Some(error) => {
            let error = mask::secrets(&error).replace(['\n', '\r'], " | ");
            let shown: String = error.chars().take(MAX_SHOWN_CHARS).collect();
            let cut = if shown.len() < error.len() { "…" } else { "" };
            format!("reload failed, the old configuration is in force: {shown}{cut}; {summary}")
        }
    }
}

/// The status in one line, for people.
pub fn summary(status: &HubStatus) -> String {
    format!(
        "{} sessions in {} rooms, {} messages since the start",
        status.sessions, status.rooms, status.messages
    )
}
