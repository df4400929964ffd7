//! A metric with its samples, before it is written in one of the two formats.

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::Timestamp;
use crate::server::counters::{Counter, CounterByWord, Histogram, HistogramSnapshot};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Counts per bucket.
    Histogram,
    /// Always 1, with a label; the name ends in `_info`.
    Info,
}

/// A value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Integer(u64),
    /// A number of seconds.
    Float(f64),
    /// Counts per bucket.
    Histogram(HistogramSnapshot),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Integer(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::Integer(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Integer(value.into())
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Value::Float(value.as_secs_f64())
    }
}

/// Seconds since 1970.
impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Value::Float(value.micros() as f64 / 1e6)
    }
}

impl From<&Counter> for Value {
    fn from(value: &Counter) -> Self {
        Value::Integer(value.get())
    }
}

/// A metric. A label's value is a word of this program or a number of the configuration, never a text from outside, so
/// clients can't multiply the samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name, with `_total` or `_info`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One sentence for people.
    pub help: &'static str,
    /// The name of the label of each sample; empty without one.
    pub label: &'static str,
    /// The label's value and the value of each sample.
    pub samples: Vec<(Cow<'static, str>, Value)>,
}

impl Family {
    /// A counter.
    pub fn counter(name: &'static str, help: &'static str, value: impl Into<Value>) -> Self {
        Family::new(Kind::Counter, name, help, "", vec![("", value.into())])
    }

    /// A gauge.
    pub fn gauge(name: &'static str, help: &'static str, value: impl Into<Value>) -> Self {
        Family::new(Kind::Gauge, name, help, "", vec![("", value.into())])
    }

    /// A histogram.
    pub fn histogram(name: &'static str, help: &'static str, value: &Histogram) -> Self {
        let value = Value::Histogram(value.snapshot());
        Family::new(Kind::Histogram, name, help, "", vec![("", value)])
    }

    /// A counter per word of a closed set.
    pub fn counter_by_word(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        counters: &CounterByWord,
    ) -> Self {
        let samples = counters.counts().map(|(word, count)| (word, count.into())).collect();
        Family::new(Kind::Counter, name, help, label, samples)
    }

    /// A metric with a sample per value of `label`.
    pub fn new(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        samples: Vec<(&'static str, Value)>,
    ) -> Self {
        let samples = samples.into_iter().map(|(word, value)| (word.into(), value)).collect();
        Family { name, kind, help, label, samples }
    }

    /// The same with values of the label that are not known to the program, such as the number of a stream.
    pub fn labelled(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        samples: Vec<(String, Value)>,
    ) -> Self {
        let samples = samples.into_iter().map(|(word, value)| (word.into(), value)).collect();
        Family { name, kind, help, label, samples }
    }
}
