//! A real `chat-client` on an emulated terminal (pyte): a test types and reads the screen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use super::python::script;
use super::{POLL_INTERVAL, TIMEOUT, programs};

/// Columns and rows unless a test sets others.
const USUAL: (usize, usize) = (80, 24);

/// A running client and its terminal; both end on drop.
pub struct Terminal {
    emulator: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Screen>>,
    raw: tempfile::NamedTempFile,
}

/// What the terminal shows.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// Every row from the start, including those that scrolled away, without empty rows at the end.
    pub rows: Vec<String>,
    /// The cursor's column, and its row in `rows`.
    pub cursor: (usize, usize),
    /// The titles of the window and of its icon.
    pub titles: (String, String),
    /// The exit code (minus the signal), and whether the terminal's settings were restored.
    pub end: Option<(i64, bool)>,
    gone: usize,
}

/// How to start a program on a terminal.
pub struct Builder {
    program: std::path::PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    size: (usize, usize),
}

impl Terminal {
    /// Prepares a client with these arguments and an English environment.
    pub fn with(arguments: &[&str]) -> Builder {
        Terminal::of(programs::client(), arguments)
    }

    /// Prepares another program, such as a shell.
    pub fn of(program: impl Into<std::path::PathBuf>, arguments: &[&str]) -> Builder {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let program = program.into();
        let builder = Builder { program, arguments, environment: Vec::new(), size: USUAL };
        builder.env("TERM", "xterm-256color").env("LANG", "C.UTF-8").env("USER", "tester")
    }

    /// Types text.
    pub fn type_text(&mut self, text: &str) {
        self.command(&json!({"type": text}));
    }

    /// Types a line and presses Enter.
    pub fn enter(&mut self, line: &str) {
        self.type_text(&format!("{line}\r"));
    }

    /// Types bytes that need not be UTF-8.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.command(&json!({"bytes": hex}));
    }

    /// Resizes the window.
    pub fn resize(&mut self, columns: usize, rows: usize) {
        self.command(&json!({"resize": [columns, rows]}));
    }

    /// Closes the window.
    pub fn hang_up(&mut self) {
        self.command(&json!({"hangup": true}));
    }

    /// What the terminal shows now.
    pub fn screen(&self) -> Screen {
        self.screen.lock().unwrap().clone()
    }

    /// All bytes that the client wrote.
    pub fn raw(&self) -> Vec<u8> {
        std::fs::read(self.raw.path()).unwrap()
    }

    /// Waits until `is_it` holds for the screen, and gives the screen.
    pub fn wait(&self, what: &str, mut is_it: impl FnMut(&Screen) -> bool) -> Screen {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let screen = self.screen();
            if is_it(&screen) {
                return screen;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "{what}: {:?}, {:?}\n{}", screen.cursor, screen.end, screen.text());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits for a row with this end.
    pub fn wait_for(&self, end: &str) -> Screen {
        self.wait(&format!("a row that ends with {end:?}"), |screen| screen.find(end).is_some())
    }

    /// Waits until exactly this text is typed and the cursor stands behind it.
    pub fn wait_for_typed(&self, text: &str) -> Screen {
        self.wait(&format!("typed so far: {text:?}"), |screen| screen.is_typed(text))
    }

    /// Waits for this prompt with this text after it.
    pub fn wait_for_prompt(&self, prompt: &str, text: &str) -> Screen {
        self.wait(&format!("{text:?} after {prompt:?}"), |screen| screen.is_prompt(prompt, text))
    }

    /// Waits until the client exits, and gives its exit code.
    pub fn wait_for_exit(&self) -> i64 {
        let screen = self.wait("the client ends", |screen| screen.end.is_some());
        let (code, restored) = screen.end.unwrap();
        assert!(restored, "the terminal is not as it was before:\n{}", screen.text());
        code
    }

    fn command(&mut self, command: &Value) {
        writeln!(self.keys, "{command}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

impl Builder {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the window's size.
    pub fn sized(mut self, columns: usize, rows: usize) -> Self {
        self.size = (columns, rows);
        self
    }

    /// Opens the window and starts the client in it.
    pub fn start(self) -> Terminal {
        let raw = tempfile::NamedTempFile::new().unwrap();
        let mut emulator = script("terminal.py")
            .args([self.size.0.to_string(), self.size.1.to_string()])
            .arg(raw.path())
            .arg(self.program)
            .args(self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let screen = Arc::<Mutex<Screen>>::default();
        let (into, pictures) = (screen.clone(), BufReader::new(emulator.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for picture in pictures.lines().map_while(Result::ok) {
                into.lock().unwrap().take(&serde_json::from_str(&picture).unwrap());
            }
        });
        Terminal { keys: emulator.stdin.take().unwrap(), emulator, screen, raw }
    }
}

impl Screen {
    /// The last row with this end.
    pub fn find(&self, end: &str) -> Option<usize> {
        self.rows.iter().rposition(|row| row.ends_with(end))
    }

    /// Whether exactly this text is typed, not entered, and the cursor stands behind it.
    pub fn is_typed(&self, text: &str) -> bool {
        self.is_prompt("> ", text)
    }

    /// Whether the last row is this prompt with this text, and the cursor stands behind it.
    pub fn is_prompt(&self, prompt: &str, text: &str) -> bool {
        // Spaces at the end show only by the cursor.
        let row = format!("{prompt}{text}");
        self.rows.last().is_some_and(|last| last == row.trim_end())
            && self.cursor == (width(&row), self.rows.len() - 1)
    }

    /// The messages without their times: what follows `[12:34:56] `.
    pub fn messages(&self) -> Vec<&str> {
        self.rows
            .iter()
            .filter_map(|row| row.strip_prefix('[')?.split_once("] "))
            .map(|m| m.1)
            .collect()
    }

    /// The last rows as text, for error messages.
    pub fn text(&self) -> String {
        let rows = self.rows.iter().rev().take(60).rev();
        rows.map(|row| format!("  |{row}\n")).collect()
    }

    fn take(&mut self, picture: &Value) {
        let words = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned()).collect()
        };
        self.rows.truncate(self.gone);
        self.rows.extend(words(&picture["gone"]));
        self.gone = self.rows.len();
        self.rows.extend(words(&picture["rows"]));
        while self.rows.len() > self.gone && self.rows.last().is_some_and(String::is_empty) {
            self.rows.pop();
        }
        let at = |index: usize| picture["cursor"][index].as_u64().unwrap() as usize;
        self.cursor = (at(0), at(1) + self.gone);
        let title = |name: &str| picture[name].as_str().unwrap().to_owned();
        self.titles = (title("title"), title("icon"));
        self.end = picture["code"].as_i64().map(|code| (code, picture["restored"] == true));
    }
}

/// The columns that a text takes.
pub fn width(text: &str) -> usize {
    use unicode_width::UnicodeWidthChar as _;
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}
