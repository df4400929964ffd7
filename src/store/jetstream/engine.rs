//! What the store asks of the engine, as traits, so that unit tests have an engine in the process that
//! delays, reorders, forgets and repeats.
//!
//! Every call blocks, at most for the time of its `limit`. The methods do what one request to JetStream does
//! (ADR-31 direct get, ADR-50 atomic batches, JetStream's API subjects), and nothing more: what an answer means
//! for a room is decided by the files beside this one.

use std::time::Duration;

use bytes::Bytes;

/// A connection to the engine, shared by the log writers and all readers.
pub(super) trait Engine: Send + Sync {
    /// Whether the connection stands now. Without it, every call fails at once with
    /// [`EngineError::Disconnected`].
    fn is_connected(&self) -> bool;

    /// Connects to another server of the engine, because this one does not answer. Does not wait for it.
    fn change_server(&self);

    /// Publishes messages to one stream, all or none, and waits until the stream has answered. One message is
    /// published as it is, several as one atomic batch. A message whose `id` the stream has within its duplicate
    /// window is not stored again, whatever its condition says.
    fn publish(&self, messages: &[Outgoing], limit: Duration) -> Result<Published, PublishError>;

    /// Reads messages by direct get; any replica may answer, also one that lags behind.
    fn read(
        &self,
        stream: &str,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<ReadAnswer, EngineError>;

    /// The last message of a subject as the stream's leader knows it, not by direct get; `None` if there is none.
    fn last_of(
        &self,
        stream: &str,
        subject: &str,
        limit: Duration,
    ) -> Result<Option<StreamMessage>, EngineError>;

    /// The state of a stream as its leader knows it.
    fn stream(&self, stream: &str, limit: Duration) -> Result<StreamState, EngineError>;

    /// The subjects of a stream that match `filter`, each with its number of messages.
    fn subjects(
        &self,
        stream: &str,
        filter: &str,
        limit: Duration,
    ) -> Result<Vec<(String, u64)>, EngineError>;

    /// Removes the messages of a subject below this sequence number. Returns how many.
    fn purge(
        &self,
        stream: &str,
        subject: &str,
        below: u64,
        limit: Duration,
    ) -> Result<u64, EngineError>;

    /// Removes the messages of a subject but for the last `keep`.
    fn purge_keeping(
        &self,
        stream: &str,
        subject: &str,
        keep: u64,
        limit: Duration,
    ) -> Result<(), EngineError>;

    /// Removes one message and overwrites its bytes.
    fn erase(&self, stream: &str, seq: u64, limit: Duration) -> Result<(), EngineError>;

    /// The value of a key in the cluster's key-value bucket, with its revision.
    fn value(&self, key: &str, limit: Duration) -> Result<Option<(Bytes, u64)>, EngineError>;

    /// Sets the value of a key if its revision is still `revision`; 0 if the key has no value yet. Returns the new
    /// revision, or `None` if somebody else changed it.
    fn set_value(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        limit: Duration,
    ) -> Result<Option<u64>, EngineError>;

    /// How many keys there are whose names begin with this word and a point.
    fn count_values(&self, word: &str, limit: Duration) -> Result<u64, EngineError>;

    /// Follows a stream from the first message above `after`, for the subjects that match `filter`; `>` matches
    /// all.
    fn follow(
        &self,
        stream: &str,
        filter: &str,
        after: u64,
        limit: Duration,
    ) -> Result<Box<dyn Following>, EngineError>;
}

/// A stream that is followed, in its order, without holes other than removed messages.
pub(super) trait Following: Send {
    /// The next messages, at most `max` and at most 1 MiB; waits for the first of them. After an error, follow
    /// again from the last message that was returned.
    fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<StreamMessage>, EngineError>;
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub subject: String,
    /// `Nats-Msg-Id`; none if it is empty.
    pub id: String,
    pub payload: Bytes,
    /// It is stored only if this holds (`Nats-Expected-Last-Subject-Sequence` and its `-Subject`).
    pub condition: Option<Condition>,
    /// Whether it outlives the greatest age of messages in the stream (`Nats-TTL: never`).
    pub never_expires: bool,
}

/// That a subject has this last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub subject: String,
    /// Its number; 0 if the subject has none.
    pub last: u64,
}

impl Outgoing {
    /// A message without a condition.
    pub fn new(subject: String, id: String, payload: Bytes) -> Self {
        Outgoing { subject, id, payload, condition: None, never_expires: false }
    }
}

/// The engine's answer to [`Engine::publish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// The number of the last message; the others have the numbers before it.
    pub last: u64,
    /// Whether it was there already. Only for one message without a batch.
    pub duplicate: bool,
}

/// Why messages were not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublishError {
    /// The stream has the id of one of the messages (JetStream error 10201). Nothing was stored.
    #[error("the batch has a message that is stored already")]
    BatchHasDuplicate,
    /// The condition of one of the messages does not hold (JetStream error 10071). Nothing was stored.
    #[error("another message of the subject is the last one")]
    OtherLast,
    /// The engine has no space for it. Nothing was stored.
    #[error("the engine has no space left: {0}")]
    Full(String),
    /// The engine refused it. Nothing was stored.
    #[error("the engine refused the message: {0}")]
    Refused(String),
    /// Nothing was sent.
    #[error("the engine is not connected")]
    Disconnected,
    /// It may be stored: no answer came in time, or the connection ended before it.
    #[error("the engine did not answer: {0}")]
    Unknown(String),
}

/// Why the engine did not do something else than to publish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    /// There is no such stream, bucket or message.
    #[error("the engine has no {0}")]
    NotFound(String),
    /// There is no connection.
    #[error("the engine is not connected")]
    Disconnected,
    /// No answer came in time.
    #[error("the engine did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The engine's user may not do it.
    #[error("the engine forbids it: {0}")]
    Forbidden(String),
    /// Anything else; the text is for operators.
    #[error("{0}")]
    Failed(String),
}

/// What to read from a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadRequest {
    /// The message with this number.
    At(u64),
    /// The last message of a subject.
    #[allow(dead_code, reason = "only tests read by it now")]
    Last(String),
    /// The messages of a subject from this number on, at most `messages`, and about `bytes`.
    From { subject: String, seq: u64, messages: usize, bytes: usize },
    /// The first message of a subject at or after this time, in microseconds since 1970.
    Since { subject: String, micros: i64 },
    /// The last message of every subject that matches, at most 1,000 of them.
    LastOfEach { filter: String },
}

/// The answer to [`Engine::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadAnswer {
    /// In ascending order.
    pub messages: Vec<StreamMessage>,
    /// How many more messages match after the last of these.
    pub pending: u64,
}

/// A message in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamMessage {
    pub subject: String,
    /// Its number in the stream.
    pub seq: u64,
    /// When the engine stored it, in microseconds since 1970.
    pub micros: i64,
    pub payload: Bytes,
}

/// The state of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamState {
    /// When it was created, as the engine writes it. A stream that was made anew has another time.
    pub created: String,
    /// The first number that is not removed; `last + 1` in an empty stream.
    pub first: u64,
    pub last: u64,
    pub messages: u64,
    pub bytes: u64,
    /// How many subjects have messages.
    pub subjects: u64,
    /// How far the slowest replica is behind, if the leader knows.
    pub lag: u64,
}
