//! The store over an engine that delays, forgets and repeats.

mod append;
mod e2e;
mod epoch;
mod fake_engine;
mod import;
mod page;
mod prune;

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use fake_engine::FakeEngine;

use super::cluster::Timings;
use super::names::Names;
use super::open::{JetStreamOptions, OpenJetStreamError, open_jetstream};
use crate::protocol::{MessageId, RoomName, Seq, SeqRange, Timestamp, UserName};
use crate::store::entry::{Draft, Entry};
use crate::store::opened::{OpenedLog, OpenedStore};
use crate::store::retention::Retention;
use crate::store::room_log::{
    AppendOutcome, DeleteError, GapReason, Page, PageItem, PageRange, StoreError,
};
use crate::store::tail::{TailDeletion, TailItem, TailMessage};

/// The engine's time when a test begins: 2026-09.
const START: i64 = 1_790_000_000_000_000;
const HOUR: i64 = 3_600_000_000;

fn options(streams: u16) -> JetStreamOptions {
    let age = Duration::from_secs(30 * 24 * 60 * 60);
    JetStreamOptions {
        prefix: "chat".into(),
        streams,
        secrets: [7; 32].into(),
        retention: Retention { messages: 100_000, age, max_bytes: None },
        durable: true,
        timings: Timings {
            publish: Duration::from_millis(10),
            give_up: Duration::from_millis(300),
            ask: Duration::from_millis(50),
            pause: Duration::from_millis(1),
            change_server: Duration::from_millis(50),
            stale: Duration::from_millis(200),
            horizon: Duration::ZERO,
            check: Duration::ZERO,
            confirm: Duration::ZERO,
            lease: Duration::from_millis(300),
            purge_delay: Duration::ZERO,
        },
    }
}

fn engine(streams: u16) -> FakeEngine {
    // The subjects do not depend on the key.
    let names = Names::new("chat", streams, &[0; 32]);
    let streams: Vec<_> =
        (0..streams).map(|number| (names.stream(number), names.stream_subjects(number))).collect();
    FakeEngine::new(&streams, START)
}

/// A server over the engine.
struct Node {
    store: OpenedStore,
}

fn node(engine: &FakeEngine, options: &JetStreamOptions) -> Node {
    Node { store: try_node(engine, options).unwrap() }
}

fn try_node(
    engine: &FakeEngine,
    options: &JetStreamOptions,
) -> Result<OpenedStore, OpenJetStreamError> {
    open_jetstream(Arc::new(engine.clone()), options)
}

impl Node {
    fn append(&mut self, drafts: Vec<Draft>) -> Vec<AppendOutcome> {
        self.store.logs[0].log.append(drafts, now(START))
    }

    /// Appends one message that must be accepted.
    fn say(&mut self, room: &str, text: &str) -> u64 {
        accepted(&self.append(vec![draft(room, "Alice", None, text)])[0])
    }

    /// Says each of these numbers.
    fn say_each(&mut self, room: &str, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.say(room, &number.to_string());
        }
    }

    fn try_tail(&mut self) -> Result<Vec<TailMessage>, StoreError> {
        Ok(messages(self.store.logs[0].tail.as_mut().unwrap().next(Duration::ZERO)?))
    }

    /// The deletions that the tail yields now.
    fn tail_deletions(&mut self) -> Vec<TailDeletion> {
        let items = self.store.logs[0].tail.as_mut().unwrap().next(Duration::ZERO).unwrap();
        let deletion = |item| match item {
            TailItem::Message(_) => None,
            TailItem::Deletion(deletion) => Some(deletion),
        };
        items.into_iter().filter_map(deletion).collect()
    }

    /// Everything that the tail yields now.
    fn tail(&mut self) -> Vec<TailMessage> {
        let mut all = Vec::new();
        loop {
            let some = self.try_tail().unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    fn page(&self, room: &str, range: PageRange, limit: usize) -> Page {
        self.store.reader.page(&name(room), range, limit, 1 << 20).unwrap()
    }

    /// All that a reader of a room is told, from its beginning.
    fn all(&self, room: &str) -> Vec<Item> {
        let mut items = Vec::new();
        let mut after = Seq(0);
        loop {
            let page = self.page(room, PageRange::After(after), 7);
            items.extend(page.items().iter().map(Item::of));
            if !page.more {
                return items;
            }
            after = page.reached;
        }
    }

    fn texts(&self, room: &str) -> Vec<String> {
        let text = |item| match item {
            Item::Message(_, text) => Some(text),
            _ => None,
        };
        self.all(room).into_iter().filter_map(text).collect()
    }
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Message(u64, String),
    Redacted(u64),
    Gap(u64, u64, GapReason),
}

impl Item {
    fn of(item: &PageItem<'_>) -> Self {
        match item {
            PageItem::Message(Entry { seq, text, .. }) => Item::Message(seq.0, short(text)),
            PageItem::Redacted(redaction) => Item::Redacted(redaction.seq.0),
            PageItem::Gap(gap) => Item::Gap(gap.after.0, gap.next.0, gap.reason),
        }
    }
}

/// Long texts make failures hard to read.
fn short(text: &str) -> String {
    match text.len() {
        0..=20 => text.to_owned(),
        length => format!("{length} bytes"),
    }
}

/// The messages at the engine, without notes.
fn stored(engine: &FakeEngine) -> usize {
    engine.messages().iter().filter(|one| one.subject.starts_with("chat.m.")).count()
}

fn name(room: &str) -> RoomName {
    RoomName::parse(room).unwrap()
}

fn draft(room: &str, user: &str, id: Option<&str>, text: &str) -> Draft {
    Draft {
        room: name(room),
        user: UserName::clean(user),
        verified: false,
        id: id.map(|id| MessageId::parse(id).unwrap()),
        text: text.into(),
        e2e: None,
        commit: None,
    }
}

fn accepted(outcome: &AppendOutcome) -> u64 {
    match outcome {
        AppendOutcome::Accepted { seq } => seq.0,
        other => panic!("{other:?}"),
    }
}

fn now(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// Those of the items that are messages.
fn messages(items: Vec<TailItem>) -> Vec<TailMessage> {
    let message = |item| match item {
        TailItem::Message(message) => Some(message),
        TailItem::Deletion(_) => None,
    };
    items.into_iter().filter_map(message).collect()
}
