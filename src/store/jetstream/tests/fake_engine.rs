//! An engine in the process, for unit tests. Its streams delay, forget and repeat as a test tells it, and direct gets are
//! answered by replicas that lag behind.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::jetstream::engine::*;

/// What becomes of a request to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Normal,
    /// Stored, but no answer.
    AnswerLost,
    /// Not stored, and no answer.
    RequestLost,
    /// No answer, and stored only before the next request but one.
    Late,
    Full,
    Refused,
    Disconnected,
}

/// The engine. Clones share everything.
#[derive(Clone, Default)]
pub(super) struct FakeEngine(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_away: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: HashMap<String, Stream>,
    values: HashMap<String, (Bytes, u64)>,
    revision: u64,
    /// What becomes of the next requests to publish; then all is normal.
    deliveries: VecDeque<Delivery>,
    late: Vec<(u32, Vec<Outgoing>)>,
    /// How many messages the replicas lack that answer the next direct gets; then they lack none.
    lags: VecDeque<u64>,
    /// Errors of the next calls of [`Following::next`].
    tail_errors: VecDeque<EngineError>,
    pub direct_gets: u64,
    pub now: i64,
    created: u64,
}

struct Stream {
    created: String,
    subjects: Vec<String>,
    messages: BTreeMap<u64, StreamMessage>,
    last: u64,
    first: u64,
    ids: HashMap<String, u64>,
    removed_ids: Vec<(String, u64)>,
}

impl FakeEngine {
    /// An engine with these streams, at this time in microseconds.
    pub fn new(streams: &[(String, Vec<String>)], now: i64) -> Self {
        let engine = FakeEngine::default();
        engine.0.state.lock().now = now;
        for (name, subjects) in streams {
            engine.create(name, subjects.clone());
        }
        engine
    }

    /// Makes a stream, also one that exists.
    pub fn create(&self, name: &str, subjects: Vec<String>) {
        let mut state = self.0.state.lock();
        state.created += 1;
        let created = format!("created-{}", state.created);
        let (messages, ids) = (BTreeMap::new(), HashMap::new());
        let stream =
            Stream { created, subjects, messages, last: 0, first: 1, ids, removed_ids: Vec::new() };
        state.streams.insert(name.to_owned(), stream);
    }

    pub fn recreate(&self, name: &str) {
        let subjects = self.0.state.lock().streams[name].subjects.clone();
        self.create(name, subjects);
    }

    /// Loses the messages above this number.
    pub fn truncate(&self, name: &str, last: u64) {
        let mut state = self.0.state.lock();
        let stream = state.streams.get_mut(name).unwrap();
        stream.messages.retain(|seq, _| *seq <= last);
        stream.ids.retain(|_, seq| *seq <= last);
        stream.last = last;
    }

    /// Changes the bytes of a message.
    pub fn damage(&self, name: &str, seq: u64) {
        let mut state = self.0.state.lock();
        let message = state.streams.get_mut(name).unwrap().messages.get_mut(&seq).unwrap();
        let mut bytes = message.payload.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        message.payload = Bytes::from(bytes);
    }

    /// Puts the bytes of one message into another.
    pub fn replace(&self, name: &str, seq: u64, by: u64) {
        let mut state = self.0.state.lock();
        let messages = &mut state.streams.get_mut(name).unwrap().messages;
        let payload = messages[&by].payload.clone();
        messages.get_mut(&seq).unwrap().payload = payload;
    }

    pub fn set_away(&self, is_away: bool) {
        self.0.is_away.store(is_away, Ordering::SeqCst);
    }

    pub fn deliver(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        self.0.state.lock().deliveries.extend(deliveries);
    }

    pub fn clear_deliveries(&self) {
        let mut state = self.0.state.lock();
        state.deliveries.clear();
        state.lags.clear();
    }

    /// Lets the stream know the id of a removed message, as a running engine does.
    pub fn remember_id_of_removed(&self, name: &str, seq: u64) {
        let mut state = self.0.state.lock();
        let stream = state.streams.get_mut(name).unwrap();
        let id = stream.removed_ids.iter().find(|(_, removed)| *removed == seq).unwrap().0.clone();
        stream.ids.insert(id, seq);
    }

    pub fn lag(&self, lags: impl IntoIterator<Item = u64>) {
        self.0.state.lock().lags.extend(lags);
    }

    pub fn fail_tail(&self, error: EngineError) {
        self.0.state.lock().tail_errors.push_back(error);
    }

    pub fn set_now(&self, now: i64) {
        self.0.state.lock().now = now;
    }

    pub fn direct_gets(&self) -> u64 {
        self.0.state.lock().direct_gets
    }

    /// All messages of all streams.
    pub fn messages(&self) -> Vec<StreamMessage> {
        let state = self.0.state.lock();
        state.streams.values().flat_map(|stream| stream.messages.values().cloned()).collect()
    }

    fn check(&self) -> Result<(), EngineError> {
        match self.0.is_away.load(Ordering::SeqCst) {
            true => Err(EngineError::Disconnected),
            false => Ok(()),
        }
    }

    fn with<T>(&self, stream: &str, ask: impl FnOnce(&mut Stream) -> T) -> Result<T, EngineError> {
        self.check()?;
        let mut state = self.0.state.lock();
        let stream = state.streams.get_mut(stream);
        stream.map(ask).ok_or_else(|| EngineError::NotFound("stream".into()))
    }
}

/// Whether a subject matches a filter with `*` and `>`.
pub(super) fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

impl Stream {
    fn matching(&self, filter: &str, end: u64) -> impl Iterator<Item = &StreamMessage> {
        self.messages
            .range(..=end)
            .map(|(_, message)| message)
            .filter(move |message| matches(filter, &message.subject))
    }

    fn remove(&mut self, seqs: &[u64]) {
        for seq in seqs {
            self.messages.remove(seq);
        }
        // The engine rebuilds its ids from the messages it has.
        let removed = self.ids.extract_if(|_, seq| seqs.contains(seq));
        self.removed_ids.extend(removed);
        self.first = self.messages.keys().next().copied().unwrap_or(self.last + 1);
    }
}

impl State {
    fn stream_of(&mut self, subject: &str) -> &mut Stream {
        self.streams
            .values_mut()
            .find(|stream| stream.subjects.iter().any(|filter| matches(filter, subject)))
            .expect("every subject is in a stream")
    }

    fn store(&mut self, messages: &[Outgoing]) -> Result<Published, PublishError> {
        let now = self.now;
        self.now += 1;
        let stream = self.stream_of(&messages[0].subject);
        let known = |message: &Outgoing| stream.ids.get(&message.id).copied();
        if messages.len() > 1 {
            let named = messages.iter().filter(|one| !one.id.is_empty());
            let ids: std::collections::HashSet<_> = named.clone().map(|one| &one.id).collect();
            if messages.iter().any(|one| known(one).is_some()) || ids.len() < named.count() {
                return Err(PublishError::BatchHasDuplicate);
            }
        } else if let Some(last) = known(&messages[0]) {
            return Ok(Published { last, duplicate: true });
        }
        let holds = |condition: &Condition| {
            let last = stream.matching(&condition.subject, u64::MAX).last();
            last.map_or(0, |last| last.seq) == condition.last
        };
        if !messages.iter().filter_map(|one| one.condition.as_ref()).all(holds) {
            return Err(PublishError::OtherLast);
        }
        for Outgoing { subject, id, payload, .. } in messages {
            stream.last += 1;
            let seq = stream.last;
            if !id.is_empty() {
                stream.ids.insert(id.clone(), seq);
            }
            let (subject, payload) = (subject.clone(), payload.clone());
            stream.messages.insert(seq, StreamMessage { subject, seq, micros: now, payload });
        }
        Ok(Published { last: stream.last, duplicate: false })
    }
}

impl Engine for FakeEngine {
    fn is_connected(&self) -> bool {
        self.check().is_ok()
    }

    fn change_server(&self) {}

    fn publish(&self, messages: &[Outgoing], _: Duration) -> Result<Published, PublishError> {
        self.check().map_err(|_| PublishError::Disconnected)?;
        assert!((1..=1_000).contains(&messages.len()), "{}", messages.len());
        let mut state = self.0.state.lock();
        let unknown = || Err(PublishError::Unknown("a test lost the answer".into()));
        for (_, late) in state.late.extract_if(.., |(rest, _)| *rest == 0).collect::<Vec<_>>() {
            let _ = state.store(&late);
        }
        state.late.iter_mut().for_each(|(rest, _)| *rest -= 1);
        match state.deliveries.pop_front().unwrap_or(Delivery::Normal) {
            Delivery::Normal => state.store(messages),
            Delivery::AnswerLost => match state.store(messages) {
                Ok(_) | Err(_) => unknown(),
            },
            Delivery::RequestLost => unknown(),
            Delivery::Late => {
                state.late.push((1, messages.to_vec()));
                unknown()
            }
            Delivery::Full => Err(PublishError::Full("a test filled the disk".into())),
            Delivery::Refused => Err(PublishError::Refused("by a test".into())),
            Delivery::Disconnected => Err(PublishError::Disconnected),
        }
    }

    fn read(
        &self,
        stream: &str,
        request: &ReadRequest,
        _: Duration,
    ) -> Result<ReadAnswer, EngineError> {
        let lag = {
            let mut state = self.0.state.lock();
            state.direct_gets += 1;
            state.lags.pop_front().unwrap_or(0)
        };
        self.with(stream, |stream| {
            let end = stream.last.saturating_sub(lag);
            let one = |message: Option<&StreamMessage>| match message {
                Some(message) => Ok(ReadAnswer { messages: vec![message.clone()], pending: 0 }),
                None => Err(EngineError::NotFound("message".into())),
            };
            match request {
                ReadRequest::At(seq) => one(stream.messages.get(seq).filter(|one| one.seq <= end)),
                ReadRequest::Last(subject) => one(stream.matching(subject, end).last()),
                ReadRequest::Since { subject, micros } => {
                    one(stream.matching(subject, end).find(|message| message.micros >= *micros))
                }
                ReadRequest::From { subject, seq, messages, bytes } => {
                    let mut found = stream.matching(subject, end).filter(|one| one.seq >= *seq);
                    let mut answer = ReadAnswer::default();
                    let mut left = *bytes;
                    while answer.messages.len() < *messages && left > 0 {
                        let Some(message) = found.next() else { break };
                        left = left.saturating_sub(message.payload.len());
                        answer.messages.push(message.clone());
                    }
                    answer.pending = found.count() as u64;
                    if answer.messages.is_empty() {
                        return Err(EngineError::NotFound("message".into()));
                    }
                    Ok(answer)
                }
                ReadRequest::LastOfEach { filter } => {
                    let mut last: BTreeMap<&str, &StreamMessage> = BTreeMap::new();
                    for message in stream.matching(filter, end) {
                        last.insert(&message.subject, message);
                    }
                    let mut messages: Vec<_> = last.into_values().cloned().collect();
                    messages.sort_by_key(|message| message.seq);
                    messages.truncate(1_000);
                    Ok(ReadAnswer { messages, pending: 0 })
                }
            }
        })?
    }

    fn last_of(
        &self,
        stream: &str,
        subject: &str,
        _: Duration,
    ) -> Result<Option<StreamMessage>, EngineError> {
        self.with(stream, |stream| stream.matching(subject, u64::MAX).last().cloned())
    }

    fn stream(&self, stream: &str, _: Duration) -> Result<StreamState, EngineError> {
        self.with(stream, |stream| {
            let mut subjects: Vec<_> = stream.messages.values().map(|one| &one.subject).collect();
            subjects.sort();
            subjects.dedup();
            StreamState {
                created: stream.created.clone(),
                first: stream.first,
                last: stream.last,
                messages: stream.messages.len() as u64,
                bytes: stream.messages.values().map(|one| one.payload.len() as u64).sum(),
                subjects: subjects.len() as u64,
                lag: 0,
            }
        })
    }

    fn subjects(
        &self,
        stream: &str,
        filter: &str,
        _: Duration,
    ) -> Result<Vec<(String, u64)>, EngineError> {
        self.with(stream, |stream| {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for message in stream.matching(filter, u64::MAX) {
                *counts.entry(message.subject.clone()).or_default() += 1;
            }
            counts.into_iter().collect()
        })
    }

    fn purge(
        &self,
        stream: &str,
        subject: &str,
        below: u64,
        _: Duration,
    ) -> Result<u64, EngineError> {
        self.with(stream, |stream| {
            let end = below.saturating_sub(1);
            let seqs: Vec<u64> = stream.matching(subject, end).map(|one| one.seq).collect();
            stream.remove(&seqs);
            seqs.len() as u64
        })
    }

    fn purge_keeping(
        &self,
        stream: &str,
        subject: &str,
        keep: u64,
        _: Duration,
    ) -> Result<(), EngineError> {
        self.with(stream, |stream| {
            let seqs: Vec<u64> = stream.matching(subject, u64::MAX).map(|one| one.seq).collect();
            let surplus = seqs.len().saturating_sub(keep as usize);
            stream.remove(&seqs[..surplus]);
        })
    }

    fn erase(&self, stream: &str, seq: u64, _: Duration) -> Result<(), EngineError> {
        self.with(stream, |stream| match stream.messages.contains_key(&seq) {
            true => {
                stream.remove(&[seq]);
                Ok(())
            }
            false => Err(EngineError::NotFound("message".into())),
        })?
    }

    fn value(&self, key: &str, _: Duration) -> Result<Option<(Bytes, u64)>, EngineError> {
        self.check()?;
        Ok(self.0.state.lock().values.get(key).cloned())
    }

    fn set_value(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        _: Duration,
    ) -> Result<Option<u64>, EngineError> {
        self.check()?;
        let mut state = self.0.state.lock();
        if state.values.get(key).map_or(0, |(_, revision)| *revision) != revision {
            return Ok(None);
        }
        state.revision += 1;
        let revision = state.revision;
        state.values.insert(key.to_owned(), (value, revision));
        Ok(Some(revision))
    }

    fn count_values(&self, word: &str, _: Duration) -> Result<u64, EngineError> {
        self.check()?;
        let values = &self.0.state.lock().values;
        Ok(values.keys().filter(|key| key.starts_with(&format!("{word}."))).count() as u64)
    }

    fn follow(
        &self,
        stream: &str,
        filter: &str,
        after: u64,
        _: Duration,
    ) -> Result<Box<dyn Following>, EngineError> {
        self.with(stream, |_| ())?;
        let (engine, stream, filter) = (self.clone(), stream.to_owned(), filter.to_owned());
        Ok(Box::new(FakeFollowing { engine, stream, filter, after }))
    }
}

struct FakeFollowing {
    engine: FakeEngine,
    stream: String,
    filter: String,
    after: u64,
}

impl Following for FakeFollowing {
    fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<StreamMessage>, EngineError> {
        let error = self.engine.0.state.lock().tail_errors.pop_front();
        if let Some(error) = error {
            return Err(error);
        }
        let began = Instant::now();
        loop {
            let (filter, after) = (&self.filter, self.after);
            let messages: Vec<StreamMessage> = self.engine.with(&self.stream, |stream| {
                let found = stream.matching(filter, u64::MAX);
                found.filter(|message| message.seq > after).take(max).cloned().collect()
            })?;
            if let Some(last) = messages.last() {
                self.after = last.seq;
            }
            if !messages.is_empty() || began.elapsed() >= wait {
                return Ok(messages);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
