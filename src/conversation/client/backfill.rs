//! Reading a room's past page by page until the present is reached, for `--since` and for the
//! `history` command.
//!
//! A backfill first requests pages backwards until it finds its start, then pages forwards, which
//! the client shows. Live messages that arrive meanwhile are dropped, because a later page holds
//! them too: nothing is buffered and nothing is shown twice.

use std::time::{Duration, Instant};

use crate::protocol::frame::HistoryRequest;
use crate::protocol::{Seq, Timestamp};

/// Messages per requested page.
const PAGE_MESSAGES: u64 = 200;

/// Pages in a row that bring the backfill no further, above which it is stalled.
const MAX_STALLED_PAGES: u32 = 5;
/// The pause after the first such page. It doubles with each.
const STALLED_PAUSE: Duration = Duration::from_millis(100);

/// Where a backfill starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillStart {
    /// After this message.
    After(Seq),
    /// At the first message that is not older than this.
    NotBefore(Timestamp),
    /// This many messages before the end.
    Newest(u64),
    /// So many messages, the newest of them at most `Until`.
    NewestUntil(u64, Until),
}

/// The last message that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// This one.
    Seq(Seq),
    /// The last one that is not younger than this.
    Moment(Timestamp),
}

impl Until {
    /// Whether a message is wanted. One whose time can't be read is.
    pub fn includes(self, seq: Option<Seq>, at: Option<Timestamp>) -> bool {
        match self {
            Until::Seq(last) => seq.is_none_or(|seq| seq <= last),
            Until::Moment(last) => at.is_none_or(|at| at <= last),
        }
    }
}

/// The backfill of one room.
#[derive(Debug)]
pub struct Backfill {
    step: Step,
    request_at: Option<Instant>,
    newest_live: Seq,
    /// Pages in a row that brought the backfill no further.
    stalled_pages: u32,
    /// How often the server said that it has not come as far as the backfill.
    steps_back: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Requests pages backwards to find the start.
    Search { start: BackfillStart, before: Option<Seq> },
    /// Requests pages forwards and shows them.
    Read { after: Seq },
    /// Shows nothing: its only request is answered after everything that the server sends by itself.
    AwaitReplay,
}

/// The use of a page.
#[derive(Debug, PartialEq, Eq)]
pub enum PageAction {
    /// Show nothing: the page was part of the search for the start.
    Skip,
    /// Show the messages after this one.
    Show(Seq),
}

impl Backfill {
    /// A backfill whose first request is due now.
    pub fn new(start: BackfillStart, now: Instant) -> Self {
        let step = match start {
            BackfillStart::After(after) => Step::Read { after },
            start => Step::Search { start, before: None },
        };
        Backfill {
            step,
            request_at: Some(now),
            newest_live: Seq(0),
            stalled_pages: 0,
            steps_back: 0,
        }
    }

    /// Waits until the server has replayed a room from the position of the registration. The server
    /// answers requests in order, and this one after the replay.
    pub fn await_replay(now: Instant) -> Self {
        Backfill {
            step: Step::AwaitReplay,
            request_at: Some(now),
            newest_live: Seq(0),
            stalled_pages: 0,
            steps_back: 0,
        }
    }

    /// Whether the messages and gaps of the room that the server sends by itself are shown; else a
    /// page holds them.
    pub fn shows_live(&self) -> bool {
        self.step == Step::AwaitReplay
    }

    /// The last message that was shown, or the one before the start. `None` until the start is found.
    pub fn shown_up_to(&self) -> Option<Seq> {
        match self.step {
            Step::Read { after } => Some(after),
            Step::Search { .. } | Step::AwaitReplay => None,
        }
    }

    /// When the next request is due. `None` while the answer to one is awaited.
    pub fn next_request_at(&self) -> Option<Instant> {
        self.request_at
    }

    /// The next request, if it is due.
    pub fn next_request(&mut self, room: &str, now: Instant) -> Option<HistoryRequest> {
        self.request_at.take_if(|at| *at <= now)?;
        let (after, before, limit) = match self.step {
            Step::Search { before, .. } => (None, before, PAGE_MESSAGES),
            Step::Read { after } => (Some(after), None, PAGE_MESSAGES),
            // The page before the first message is empty.
            Step::AwaitReplay => (None, Some(Seq(1)), 1),
        };
        Some(HistoryRequest { room: room.to_owned(), after, before, limit: Some(limit) })
    }

    /// Sends the last request again after a pause, because the server could not answer it.
    pub fn retry_after(&mut self, now: Instant, pause: Duration) {
        self.request_at = Some(now + pause);
    }

    /// Whether the server answers again and again with pages that bring the backfill no further.
    pub fn is_stalled(&self) -> bool {
        self.stalled_pages.max(self.steps_back) > MAX_STALLED_PAGES
    }

    /// A live message came. The backfill does not end before a page held it.
    pub fn note_live(&mut self, seq: Seq) {
        self.newest_live = self.newest_live.max(seq);
    }

    /// Takes the `seq` and the timestamp of each message of a page, oldest first, and how far the page
    /// reached, if the server sent that. Also returns whether the present is reached.
    pub fn receive_page(
        &mut self,
        page: &[(Seq, Option<Timestamp>)],
        more: bool,
        reached: Option<Seq>,
        now: Instant,
    ) -> (PageAction, bool) {
        let first = page.first().map(|(seq, _)| *seq);
        // A page may begin with unreadable messages, or have no others.
        let oldest = reached.or(first);
        match &mut self.step {
            Step::Read { after } => {
                let shown = *after;
                let last = page.iter().map(|(seq, _)| *seq).fold(shown, Seq::max);
                // A `gap` of the reason `future` comes with a page that reached less far than the start.
                if let Some(head) = reached.filter(|reached| last <= shown && *reached < shown) {
                    *after = head;
                    self.steps_back += 1;
                    let done = !more && self.newest_live <= head;
                    self.request_at = (!done).then_some(now);
                    return (PageAction::Show(shown), done);
                }
                *after = last.max(reached.unwrap_or(shown));
                let (progress, done) = (*after > shown, !more && self.newest_live <= *after);
                self.request_at = (!done).then_some(now);
                // Nothing new is in a page that brings no progress.
                if !progress && !done {
                    self.note_stalled(now);
                    return (PageAction::Skip, false);
                }
                self.stalled_pages = 0;
                (PageAction::Show(shown), done)
            }
            Step::AwaitReplay => (PageAction::Skip, true),
            Step::Search { start, before } => {
                let found = match start {
                    BackfillStart::After(seq) => Some(*seq),
                    BackfillStart::NotBefore(time) => page
                        .iter()
                        .rfind(|(_, at)| at.is_some_and(|at| at < *time))
                        .map(|(seq, _)| *seq),
                    BackfillStart::Newest(wanted) => before_newest(page, wanted, None),
                    BackfillStart::NewestUntil(wanted, until) => {
                        before_newest(page, wanted, Some(*until))
                    }
                };
                self.request_at = Some(now);
                match (found, oldest) {
                    (Some(after), _) => self.step = Step::Read { after },
                    (None, Some(oldest))
                        if more && before.is_some_and(|before| oldest >= before) =>
                    {
                        self.note_stalled(now);
                        return (PageAction::Skip, false);
                    }
                    (None, Some(oldest)) if more => *before = Some(oldest),
                    (None, first) => {
                        let after = first.map_or(Seq(0), before_seq);
                        self.step = Step::Read { after };
                    }
                }
                self.stalled_pages = 0;
                (PageAction::Skip, false)
            }
        }
    }

    /// Sends the request again after a pause that grows.
    fn note_stalled(&mut self, now: Instant) {
        let pause = STALLED_PAUSE * (1 << self.stalled_pages.min(MAX_STALLED_PAGES));
        self.stalled_pages = self.stalled_pages.saturating_add(1);
        self.request_at = Some(now + pause);
    }
}

/// The message before the newest `wanted` messages of those up to `until`, if the page reaches it. Else
/// `wanted` becomes smaller.
fn before_newest(
    page: &[(Seq, Option<Timestamp>)],
    wanted: &mut u64,
    until: Option<Until>,
) -> Option<Seq> {
    let fits = |(seq, at): &&(Seq, Option<Timestamp>)| {
        until.is_none_or(|until| until.includes(Some(*seq), *at))
    };
    let fitting: Vec<Seq> = page.iter().filter(fits).map(|(seq, _)| *seq).collect();
    let skip = (fitting.len() as u64).saturating_sub(*wanted);
    *wanted = wanted.saturating_sub(fitting.len() as u64);
    match usize::try_from(skip).unwrap_or(0).checked_sub(1) {
        Some(last_skipped) => Some(fitting[last_skipped]),
        None => (*wanted == 0).then(|| page.first().map_or(Seq(0), |(seq, _)| before_seq(*seq))),
    }
}

fn before_seq(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The messages that a backfill shows, from a server that keeps the messages `kept` (the `seq` is
    /// also the time in seconds) and answers in pages of at most `max_page`.
    fn read_all(start: BackfillStart, kept: &[u64], max_page: usize) -> Vec<u64> {
        let now = Instant::now();
        let mut backfill = Backfill::new(start, now);
        let mut shown = Vec::new();
        for _ in 0..10_000 {
            let request =
                backfill.next_request("r", now).expect("a request until the present is reached");
            let limit = max_page.min(usize::try_from(request.limit.unwrap()).unwrap());
            let (page, more): (Vec<u64>, bool) = match (request.after, request.before) {
                (Some(after), _) => {
                    let rest: Vec<u64> = kept.iter().copied().filter(|s| *s > after.0).collect();
                    (rest.iter().copied().take(limit).collect(), rest.len() > limit)
                }
                (None, before) => {
                    let before = before.map_or(u64::MAX, |seq| seq.0);
                    let rest: Vec<u64> = kept.iter().copied().filter(|s| *s < before).collect();
                    let cut = rest.len().saturating_sub(limit);
                    (rest[cut..].to_vec(), cut > 0)
                }
            };
            let time = |seq: &u64| Some(Timestamp::from_micros(*seq as i64 * 1_000_000));
            let page: Vec<_> = page.iter().map(|seq| (Seq(*seq), time(seq))).collect();
            let (action, done) = backfill.receive_page(&page, more, None, now);
            if let PageAction::Show(after) = action {
                shown.extend(page.iter().map(|(seq, _)| seq.0).filter(|seq| *seq > after.0));
            }
            if done {
                return shown;
            }
        }
        panic!("the present is never reached");
    }

    proptest! {
        #[test]
        fn every_start_shows_exactly_the_messages_it_names(
            kept in prop::collection::btree_set(1u64..500, 0..60),
            max_page in 1usize..20,
            number in 0u64..520,
        ) {
            let kept: Vec<u64> = kept.into_iter().collect();
            let later = |seq: u64| kept.iter().copied().filter(|s| *s >= seq).collect::<Vec<_>>();
            prop_assert_eq!(read_all(BackfillStart::After(Seq(number)), &kept, max_page), later(number + 1));
            let time = Timestamp::from_micros(number as i64 * 1_000_000);
            prop_assert_eq!(read_all(BackfillStart::NotBefore(time), &kept, max_page), later(number));
            let wanted = usize::try_from(number).unwrap().max(1);
            let newest = kept[kept.len().saturating_sub(wanted)..].to_vec();
            prop_assert_eq!(read_all(BackfillStart::Newest(wanted as u64), &kept, max_page), newest);
            let early: Vec<u64> = kept.iter().copied().filter(|seq| *seq <= number).collect();
            let newest = &early[early.len().saturating_sub(3)..];
            for until in [Until::Seq(Seq(number)), Until::Moment(time)] {
                let mut shown = read_all(BackfillStart::NewestUntil(3, until), &kept, max_page);
                shown.retain(|seq| *seq <= number);
                prop_assert_eq!(&shown, newest);
            }
        }
    }

    /// A server that answers every request alike.
    fn is_stalled_by(start: BackfillStart, page: &[u64], reached: Option<u64>) -> bool {
        let mut now = Instant::now();
        let mut backfill = Backfill::new(start, now);
        let page: Vec<_> = page.iter().map(|seq| (Seq(*seq), None)).collect();
        for _ in 0..20 {
            now = backfill.next_request_at().unwrap();
            backfill.next_request("r", now).unwrap();
            let (_, done) = backfill.receive_page(&page, true, reached.map(Seq), now);
            assert!(!done);
            if backfill.is_stalled() {
                return true;
            }
        }
        false
    }

    #[test]
    fn pages_without_progress_stall_a_backfill() {
        for start in [
            BackfillStart::After(Seq(7)),
            BackfillStart::NotBefore(Timestamp::from_micros(0)),
            BackfillStart::Newest(1_000),
        ] {
            assert!(is_stalled_by(start, &[], None), "{start:?}");
            assert!(is_stalled_by(start, &[], Some(3)), "{start:?}");
            assert!(is_stalled_by(start, &[5, 6, 7], None), "{start:?}");
        }
    }

    #[test]
    fn a_start_above_the_newest_message_goes_back_to_it() {
        let now = Instant::now();
        let mut backfill = Backfill::new(BackfillStart::After(Seq(1_795_705_200)), now);
        backfill.next_request("r", now).unwrap();
        let (action, done) = backfill.receive_page(&[], false, Some(Seq(7)), now);
        assert_eq!((action, done), (PageAction::Show(Seq(1_795_705_200)), true));
        assert_eq!(backfill.shown_up_to(), Some(Seq(7)));
        // A server that goes forwards and backwards brings no progress.
        for _ in 0..MAX_STALLED_PAGES {
            assert!(!backfill.is_stalled());
            backfill.receive_page(&[(Seq(9), None)], true, Some(Seq(9)), now);
            backfill.receive_page(&[], true, Some(Seq(7)), now);
        }
        assert!(backfill.is_stalled());
    }

    #[test]
    fn an_empty_page_that_reached_further_is_progress() {
        let now = Instant::now();
        let mut backfill = Backfill::new(BackfillStart::After(Seq(0)), now);
        for reached in (500..50_000).step_by(500) {
            assert!(backfill.next_request("r", now).is_some(), "at once");
            let (action, done) = backfill.receive_page(&[], true, Some(Seq(reached)), now);
            assert_eq!((action, done), (PageAction::Show(Seq(reached - 500)), false));
        }
        assert!(!backfill.is_stalled());
    }

    #[test]
    fn a_backfill_requests_live_messages_it_has_not_shown() {
        let now = Instant::now();
        let mut backfill = Backfill::new(BackfillStart::After(Seq(0)), now);
        backfill.next_request("r", now).unwrap();
        backfill.note_live(Seq(2));
        assert_eq!(
            backfill.receive_page(&[(Seq(1), None)], false, None, now),
            (PageAction::Show(Seq(0)), false)
        );
        assert_eq!(backfill.next_request("r", now).unwrap().after, Some(Seq(1)));
        assert_eq!(
            backfill.receive_page(&[(Seq(2), None)], false, Some(Seq(2)), now),
            (PageAction::Show(Seq(1)), true)
        );
        assert!(backfill.next_request("r", now).is_none());
    }
}
