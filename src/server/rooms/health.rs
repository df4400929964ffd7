//! Whether the parts of the server make progress: the log writer, the hub and the event loop.
//!
//! `admin::health_watch` asks each part every second, and a question that a part leaves open for too
//! long is a problem. The probes, `ctl status`, the watchdog and the status line all read the problems
//! here, at the time when they report them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::log_writer_health::LogWriterProblem;
use super::question::Question;

/// The hub and the event loop must answer within this time.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);

/// What is wrong with a part of the server. The text is for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HealthProblem {
    /// Messages are not stored.
    #[error(transparent)]
    LogWriter(#[from] LogWriterProblem),
    /// In token mode, no user may register.
    #[error(
        "the access list of the cluster can't be reached, so nobody is let in; see access_not_shared in the server log"
    )]
    Isolated,
    /// Most servers of the engine may be away.
    #[error(
        "the access list of the cluster can't be reached for {seconds} s: most servers of the engine may be away"
    )]
    AccessList {
        /// Seconds since it was reached.
        seconds: u64,
    },
    /// The engine of the cluster does not answer.
    #[error(
        "the engine has not answered for {seconds} s, so nothing is stored and nothing comes from other servers"
    )]
    Engine {
        /// Seconds since its last answer.
        seconds: u64,
    },
    /// The hub does not answer.
    #[error("the hub has not answered for {seconds} s, so messages are not delivered")]
    Hub {
        /// Seconds since the question.
        seconds: u64,
    },
    /// A worker of the event loop does not answer.
    #[error("the event loop has not answered for {seconds} s, so connections are not served")]
    EventLoop {
        /// Seconds since the question, or since a worker was first seen at the task that it still runs.
        seconds: u64,
    },
}

impl HealthProblem {
    /// Whether a restart of the server may help. It does not empty a full disk or bring back an engine, and the
    /// server still serves what is stored.
    pub fn is_helped_by_restart(&self) -> bool {
        use LogWriterProblem::{Failing, Unfollowed};
        let is_outside =
            matches!(self, HealthProblem::LogWriter(Failing { .. } | Unfollowed { .. }));
        let is_of_cluster = matches!(
            self,
            HealthProblem::Isolated
                | HealthProblem::Engine { .. }
                | HealthProblem::AccessList { .. }
        );
        !is_outside && !is_of_cluster
    }
}

/// The problems at one time; none means that the server is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<HealthProblem>);

impl Problems {
    /// Whether the server is ready.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// The answers of the hub and the event loop. The log writer keeps its own.
#[derive(Debug, Default)]
pub struct Health {
    /// The question to the hub.
    pub hub: Arc<Question>,
    /// The question to the event loop, which any of its workers answers.
    pub event_loop: Arc<Question>,
    /// The longest time that a worker of the event loop has been at the task that it runs now.
    pub longest_task: Mutex<Duration>,
}

impl Health {
    /// The problems now, with that of the log writer, how long the engine of a cluster has been lost and its access list
    /// not reached, and whether the node is cut off from that list.
    pub fn problems(
        &self,
        log_writer: Option<LogWriterProblem>,
        engine_lost_for: Option<Duration>,
        list_unreached_for: Option<Duration>,
        is_isolated: bool,
    ) -> Problems {
        let too_long = |time: Duration| (time > MAX_ANSWER_TIME).then_some(time.as_secs());
        let event_loop = self.event_loop.open_for().max(*self.longest_task.lock());
        let problems = [
            engine_lost_for.map(|time| HealthProblem::Engine { seconds: time.as_secs() }),
            list_unreached_for
                .filter(|_| !is_isolated)
                .map(|time| HealthProblem::AccessList { seconds: time.as_secs() }),
            log_writer.map(HealthProblem::LogWriter),
            is_isolated.then_some(HealthProblem::Isolated),
            too_long(self.hub.open_for()).map(|seconds| HealthProblem::Hub { seconds }),
            too_long(event_loop).map(|seconds| HealthProblem::EventLoop { seconds }),
        ];
        Problems(problems.into_iter().flatten().collect())
    }
}
