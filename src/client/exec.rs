//! `--exec`: a command for each message of others, one after the other; what it prints is said.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::exit::print_error;
use crate::conversation::client::event::Message;

/// Messages that may wait for the command; then nothing more is read.
pub const WAITING: usize = 64;
/// Longest reply line, in bytes; what is longer is cut off there.
const REPLY_BYTES: usize = 16 * 1024;

/// A message for the command.
pub struct ExecTask {
    json: Vec<u8>,
    room: String,
    variables: Vec<(&'static str, String)>,
}

/// Something the command said.
pub struct Reply {
    /// Where the message stood that it answers; empty on a basic server.
    pub room: String,
    /// What it said.
    pub text: String,
}

impl ExecTask {
    /// From a message. The text goes to the command's standard input only.
    pub fn of(message: &Message<'_>) -> Self {
        let mut json = Vec::new();
        message.write_json_line(&mut json);
        let variables = vec![
            ("CHAT_ROOM", message.room.to_string()),
            ("CHAT_USERNAME", message.username.to_string()),
            ("CHAT_VERIFIED", message.verified.to_string()),
            ("CHAT_ID", message.id.to_string()),
            ("CHAT_SEQ", message.seq.map(|seq| seq.to_string()).unwrap_or_default()),
            ("CHAT_TIMESTAMP", message.timestamp.to_string()),
        ];
        ExecTask { json, room: message.room.to_string(), variables }
    }
}

/// Runs `command` by the shell for each task.
pub async fn run(
    command: String,
    mut tasks: mpsc::Receiver<ExecTask>,
    replies: mpsc::Sender<Reply>,
) {
    while let Some(task) = tasks.recv().await {
        if let Err(error) = answer(&command, task, &replies).await {
            print_error(&format!("--exec: {error}"));
        }
    }
}

async fn answer(
    command: &str,
    task: ExecTask,
    replies: &mpsc::Sender<Reply>,
) -> std::io::Result<()> {
    // A NUL in a variable would end it early; names and rooms have none, but ids may come close.
    let variables = task.variables.iter().map(|(name, value)| (name, value.replace('\0', "")));
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("piped");
    let write = async move {
        // A command that does not read its input is fine.
        let _ = stdin.write_all(&task.json).await;
    };
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let read = async {
        while let Ok(Some(mut text)) = lines.next_line().await {
            let end = (0..=REPLY_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            if !text.is_empty() {
                let room = task.room.clone();
                if replies.send(Reply { room, text }).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::join!(write, read);
    let status = child.wait().await?;
    if !status.success() {
        print_error(&format!("--exec: the command ended with {status}"));
    }
    Ok(())
}
