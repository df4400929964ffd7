//! Questions of operators to the hub.

use std::time::Duration;

use tokio::sync::oneshot;

use super::status::NO_ANSWER;
use crate::server::context::Context;
use crate::server::rooms::command::Command;

/// How long the hub may take to carry out a request. It does so also later.
const HUB_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the hub a command and waits for its answer.
pub async fn ask_hub<T>(
    context: &Context,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, String> {
    let (answer, answered) = oneshot::channel();
    context.hub.send(command(answer)).map_err(|_| NO_ANSWER)?;
    let answered = tokio::time::timeout(HUB_ANSWER_TIMEOUT, answered).await;
    answered.ok().and_then(Result::ok).ok_or_else(|| NO_ANSWER.to_owned())
}
