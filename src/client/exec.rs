//! `--exec`: runs a command for each message of other users, one after the other. Each line that the
//! command prints is sent as a reply.

use std::collections::VecDeque;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::exit_code::print_error;
use crate::conversation::client::event::Message;

/// Messages that may wait for the command.
const MAX_WAITING: usize = 64;
/// Longest reply line, in bytes; the rest of a longer one is cut off.
const MAX_REPLY_BYTES: usize = 16 * 1024;

/// A line that the command printed.
pub struct Reply {
    /// The room of the message that it answers; empty on a basic server.
    pub room: String,
    /// The line.
    pub text: String,
}

/// The queue of messages for the command, and its replies.
pub struct Exec {
    waiting: VecDeque<Run>,
    runs: mpsc::Sender<Run>,
    replies: mpsc::Receiver<Reply>,
}

/// One run of the command.
struct Run {
    /// The message as one JSON line, for standard input.
    json: Vec<u8>,
    room: String,
    environment: Vec<(&'static str, String)>,
}

impl Exec {
    /// Starts the task that runs `command` by the shell; needs a tokio runtime.
    pub fn start(command: String) -> Self {
        let (runs, next_run) = mpsc::channel(1);
        let (send_reply, replies) = mpsc::channel(MAX_WAITING);
        tokio::spawn(run_all(command, next_run, send_reply));
        Exec { waiting: VecDeque::new(), runs, replies }
    }

    /// Whether the queue of messages for the command is full.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// Queues a message.
    pub fn push(&mut self, message: &Message<'_>) {
        self.waiting.push_back(Run::new(message));
    }

    /// Hands one waiting message to the command (`None`), or returns the command's next reply where
    /// `replies` is set. Nothing is lost when the future is dropped.
    pub async fn next(&mut self, replies: bool) -> Option<Reply> {
        tokio::select! {
            Ok(permit) = self.runs.reserve(), if !self.waiting.is_empty() => {
                if let Some(run) = self.waiting.pop_front() {
                    permit.send(run);
                }
                None
            }
            Some(reply) = self.replies.recv(), if replies => Some(reply),
            else => std::future::pending().await,
        }
    }
}

impl Run {
    /// The text goes to standard input only, never into the environment.
    fn new(message: &Message<'_>) -> Self {
        let mut json = Vec::new();
        message.write_json_line(&mut json);
        let environment = vec![
            ("CHAT_ROOM", message.room.to_string()),
            ("CHAT_USERNAME", message.username.to_string()),
            ("CHAT_VERIFIED", message.verified.to_string()),
            ("CHAT_ID", message.id.to_string()),
            ("CHAT_SEQ", message.seq.map(|seq| seq.to_string()).unwrap_or_default()),
            ("CHAT_TIMESTAMP", message.timestamp.to_string()),
        ];
        Run { json, room: message.room.to_string(), environment }
    }
}

async fn run_all(command: String, mut runs: mpsc::Receiver<Run>, replies: mpsc::Sender<Reply>) {
    while let Some(run) = runs.recv().await {
        if let Err(error) = run_one(&command, run, &replies).await {
            print_error(&format!("--exec: {error}"));
        }
    }
}

async fn run_one(command: &str, run: Run, replies: &mpsc::Sender<Reply>) -> std::io::Result<()> {
    // A variable can't hold a NUL (environ(7)).
    let environment = run.environment.iter().map(|(name, value)| (name, value.replace('\0', "")));
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("piped");
    let write = async move {
        // A command need not read its input.
        let _ = stdin.write_all(&run.json).await;
    };
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let read = async {
        while let Ok(Some(mut text)) = lines.next_line().await {
            let end = (0..=MAX_REPLY_BYTES.min(text.len())).rev();
            let end = end.into_iter().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            if !text.is_empty() {
                let room = run.room.clone();
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
