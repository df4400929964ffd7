//! Reading what was said before, page by page, until the present is reached: `--since` and the
//! `history` command. What arrives live meanwhile is left to the pages, which hold it too, so
//! nothing is buffered and nothing comes twice.

use std::time::{Duration, Instant};

use crate::protocol::frame::HistoryRequest;
use crate::protocol::{Seq, Timestamp};

/// How many messages to ask for at once.
const PAGE: u64 = 200;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillStart {
    /// After this place.
    After(Seq),
    /// At the first message that is not older.
    NotBefore(Timestamp),
    /// So many from the end.
    Newest(u64),
}

/// One room's way to the present.
#[derive(Debug)]
pub struct Backfill {
    step: Step,
    ask_at: Option<Instant>,
    missed: Seq,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Going back to find the beginning.
    Back { goal: BackfillStart, before: Option<Seq> },
    /// Going forward and printing.
    Forward { after: Seq },
}

/// What a page came to.
#[derive(Debug, PartialEq, Eq)]
pub enum PageAction {
    /// The beginning is found or still looked for; nothing of this page is to be shown.
    Skip,
    /// Show what came after this place.
    Show(Seq),
}

impl Backfill {
    /// Asks at once.
    pub fn new(goal: BackfillStart, now: Instant) -> Self {
        let step = match goal {
            BackfillStart::After(after) => Step::Forward { after },
            goal => Step::Back { goal, before: None },
        };
        Backfill { step, ask_at: Some(now), missed: Seq(0) }
    }

    /// The place everything up to which was shown, once the beginning is found.
    pub fn shown(&self) -> Option<Seq> {
        match self.step {
            Step::Forward { after } => Some(after),
            Step::Back { .. } => None,
        }
    }

    /// When the next question is due.
    pub fn due(&self) -> Option<Instant> {
        self.ask_at
    }

    /// The next question, if it is due.
    pub fn ask(&mut self, room: &str, now: Instant) -> Option<HistoryRequest> {
        self.ask_at.take_if(|at| *at <= now)?;
        let (after, before) = match self.step {
            Step::Back { before, .. } => (None, before),
            Step::Forward { after } => (Some(after), None),
        };
        Some(HistoryRequest { room: room.to_owned(), after, before, limit: Some(PAGE) })
    }

    /// The server could not answer just now.
    pub fn ask_again(&mut self, now: Instant, pause: Duration) {
        self.ask_at = Some(now + pause);
    }

    /// A live message came, which a later page will hold.
    pub fn leave_to_pages(&mut self, seq: Seq) {
        self.missed = self.missed.max(seq);
    }

    /// A page came, as (place, moment) in order; `reached` is how far it reached, where the server says
    /// it. The second value says whether the present is reached.
    pub fn page(
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
            Step::Forward { after } => {
                let shown = *after;
                *after = reached
                    .unwrap_or_else(|| page.iter().map(|(seq, _)| *seq).fold(shown, Seq::max));
                let arrived = !more && self.missed <= *after;
                self.ask_at = (!arrived).then_some(now);
                (PageAction::Show(shown), arrived)
            }
            Step::Back { goal, before } => {
                let begin = match goal {
                    BackfillStart::After(seq) => Some(*seq),
                    BackfillStart::NotBefore(moment) => page
                        .iter()
                        .rfind(|(_, at)| at.is_some_and(|at| at < *moment))
                        .map(|(seq, _)| *seq),
                    BackfillStart::Newest(wanted) => {
                        let here = page.len() as u64;
                        let skip = here.saturating_sub(*wanted);
                        *wanted = wanted.saturating_sub(here);
                        let found = *wanted == 0 || skip > 0;
                        found.then(|| match skip {
                            0 => first.map_or(Seq(0), |seq| Seq(seq.0.saturating_sub(1))),
                            skip => page[usize::try_from(skip - 1).unwrap_or(0)].0,
                        })
                    }
                };
                match (begin, oldest) {
                    (Some(after), _) => self.step = Step::Forward { after },
                    (None, Some(oldest)) if more => *before = Some(oldest),
                    (None, first) => {
                        let after = first.map_or(Seq(0), |seq| Seq(seq.0.saturating_sub(1)));
                        self.step = Step::Forward { after };
                    }
                }
                self.ask_at = Some(now);
                (PageAction::Skip, false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server that holds `kept` (second by second) and answers in pages of at most `cap`.
    fn walk(goal: BackfillStart, kept: &[u64], cap: usize) -> Vec<u64> {
        let now = Instant::now();
        let mut way = Backfill::new(goal, now);
        let mut shown = Vec::new();
        for _ in 0..10_000 {
            let query = way.ask("r", now).expect("always a next question");
            let limit = cap.min(usize::try_from(query.limit.unwrap()).unwrap());
            let (page, more): (Vec<u64>, bool) = match (query.after, query.before) {
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
            let moment = |seq: &u64| Some(Timestamp::from_micros(*seq as i64 * 1_000_000));
            let page: Vec<_> = page.iter().map(|seq| (Seq(*seq), moment(seq))).collect();
            let (turn, arrived) = way.page(&page, more, None, now);
            if let PageAction::Show(after) = turn {
                shown.extend(page.iter().map(|(seq, _)| seq.0).filter(|seq| *seq > after.0));
            }
            if arrived {
                return shown;
            }
        }
        panic!("never arrived");
    }

    proptest! {
        #[test]
        fn every_goal_shows_exactly_what_it_names(
            kept in prop::collection::btree_set(1u64..500, 0..60),
            cap in 1usize..20,
            number in 0u64..520,
        ) {
            let kept: Vec<u64> = kept.into_iter().collect();
            let later = |seq: u64| kept.iter().copied().filter(|s| *s >= seq).collect::<Vec<_>>();
            prop_assert_eq!(walk(BackfillStart::After(Seq(number)), &kept, cap), later(number + 1));
            let moment = Timestamp::from_micros(number as i64 * 1_000_000);
            prop_assert_eq!(walk(BackfillStart::NotBefore(moment), &kept, cap), later(number));
            let wanted = usize::try_from(number).unwrap().max(1);
            let newest = kept[kept.len().saturating_sub(wanted)..].to_vec();
            prop_assert_eq!(walk(BackfillStart::Newest(wanted as u64), &kept, cap), newest);
        }
    }

    #[test]
    fn what_came_live_meanwhile_is_asked_for() {
        let now = Instant::now();
        let mut way = Backfill::new(BackfillStart::After(Seq(0)), now);
        way.ask("r", now).unwrap();
        way.leave_to_pages(Seq(2));
        assert_eq!(
            way.page(&[(Seq(1), None)], false, None, now),
            (PageAction::Show(Seq(0)), false)
        );
        assert_eq!(way.ask("r", now).unwrap().after, Some(Seq(1)));
        assert_eq!(
            way.page(&[(Seq(2), None)], false, Some(Seq(2)), now),
            (PageAction::Show(Seq(1)), true)
        );
        assert!(way.ask("r", now).is_none());
    }
}
