//! The send queue of one session: encoded frames that wait for the session's socket.
//!
//! A sender, such as the hub, puts a frame into the queue and writes it to the socket at once, without
//! waking the session's task: per recipient, a wake-up costs as much as the write itself. Only when
//! the socket is full does the session's task continue, as soon as the socket is writable
//! ([`SendQueue::poll_flush`]). Over TLS the sender encrypts, too: the queue owns the cipher state. Only much at
//! once is left to the session's task, because encrypting it costs more than a wake-up, and tasks run on
//! every core.
//!
//! The queue is bounded in bytes. Above the bound, a client that takes nothing for a second is a slow
//! reader; a client that reads may be behind by four times the bound, because a burst reaches a TLS
//! queue faster than the session's task writes. The session of a slow reader is closed (1013): the
//! queue is discarded except for a partly written frame, and a close frame follows.

mod encryption;
mod fan_out;
mod frame_form;
mod pending;
mod queue;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
mod totals;

pub use fan_out::send_to_all;
pub use frame_form::FrameForm;
pub use pending::CloseReason;
pub(crate) use pending::TOO_SLOW;
pub use queue::SendQueue;
pub use totals::SendQueueTotals;
