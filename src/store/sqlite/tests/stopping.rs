//! An opening that is stopped at any point leaves a store that the next start opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Opens the store, and stops the opening at its nth report of progress. Gives the steps that were begun.
fn stopped_at(home: &Home, report: usize) -> (Result<OpenedStore, OpenError>, Vec<OpeningStep>) {
    let steps = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (reports, seen) = (AtomicUsize::new(0), steps.clone());
    let stop: Arc<std::sync::OnceLock<Arc<Opening>>> = Arc::default();
    let stopper = stop.clone();
    let opening = Arc::new(Opening::new(move |progress| {
        if progress.done == 0 {
            seen.lock().push(progress.step);
        }
        if reports.fetch_add(1, Ordering::SeqCst) == report {
            stopper.get().unwrap().stop();
        }
    }));
    stop.set(opening.clone()).ok().unwrap();
    let opened = open_disk_watched(home.folder.path(), &home.key, RETENTION, at(0), &opening);
    let steps = steps.lock().clone();
    (opened, steps)
}

#[test]
fn a_recovery_that_is_stopped_anywhere_begins_again_at_the_next_start() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=40);
    drop(opened);
    std::fs::write(home.file("history.sqlite3.suspect"), "").unwrap();
    let mut stops = 0;
    for report in 0.. {
        let (opened, steps) = stopped_at(&home, report);
        match opened {
            Err(error) => {
                assert!(matches!(error, OpenError::Stopped(_)), "{report}: {error}");
                assert!(!home.file("history.sqlite3.part").exists(), "{report}");
                assert!(!home.file("history.sqlite3.damaged-1").exists(), "{report}");
                stops += 1;
            }
            Ok(opened) => {
                use OpeningStep::{Copy, Finish, Scan};
                assert!([Copy, Scan, Finish].iter().all(|step| steps.contains(step)), "{steps:?}");
                assert!(matches!(opened.findings[0], Finding::Recovered { messages: 40, .. }));
                assert_eq!(everything(&opened).entries.len(), 40);
                break;
            }
        }
        assert!(report < 1_000);
    }
    assert!(stops >= 4, "{stops}");
}

#[test]
fn an_intact_store_that_is_stopped_stays_intact() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=40);
    opened.log().close().unwrap();
    drop(opened);
    let (opened, steps) = stopped_at(&home, 0);
    assert!(matches!(opened, Err(OpenError::Stopped(_))), "{steps:?}");
    assert_eq!(steps, [OpeningStep::Check]);
    let opened = home.open();
    assert_eq!(opened.findings, []);
    assert_eq!(everything(&opened).entries.len(), 40);
}

#[test]
fn an_upgrade_that_is_stopped_is_rolled_back() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=40);
    drop(opened);
    write_version_1(&home);
    let mut stops = 0;
    loop {
        let (opened, steps) = stopped_at(&home, stops);
        let version = || {
            let db = rusqlite::Connection::open(home.file(STORE_FILE)).unwrap();
            schema::schema_version(&db).unwrap()
        };
        match opened {
            // Each version has a transaction of its own.
            Err(OpenError::Stopped(_)) => {
                assert!(matches!((steps.len(), version()), (..=2, 1) | (3, 2)))
            }
            Err(error) => panic!("{error}"),
            Ok(opened) => {
                assert_eq!(opened.findings, []);
                assert_eq!(everything(&opened).entries.len(), 40);
                break;
            }
        }
        stops += 1;
    }
    assert!(stops >= 2, "{stops}");
}

/// The key of an interrupted rekey may be the only one that opens the store.
#[test]
fn a_store_that_neither_key_opens_loses_neither() {
    let home = Home::new();
    let mut opened = home.open();
    fill(&mut opened, 1..=5);
    drop(opened);
    let next = home.file("history.key.next");
    AtRestKey::fresh().save(&next, true).unwrap();
    let bytes = std::fs::read(home.file(STORE_FILE)).unwrap();
    std::fs::write(home.file(STORE_FILE), vec![0; 8192]).unwrap();
    let _ = open_disk(home.folder.path(), &home.key, RETENTION, at(0));
    assert!(next.exists() && home.file("history.key").exists());
    std::fs::write(home.file(STORE_FILE), bytes).unwrap();
    drop(home.open());
    assert!(!next.exists(), "the old key opens the store, so the rekey is undone");
}
