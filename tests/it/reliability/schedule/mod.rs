//! Whatever happens to a server and to its folder, each reader is printed every message of the record, or
//! told which are missing; nothing comes twice without a gap with reason `epoch`; and a reader that misses
//! nothing is told nothing. Decision 0012 says what each reason means, and names the limit.
//!
//! Each seed is a random schedule of messages, restarts, crashes, moves, backups, restores, pruning,
//! rotations and damage, carried out with the real programs, while readers come and go. The test keeps a
//! model of what must be stored ([`model::Record`]) and of what each reader knows ([`model::Reading`]).
//!
//! `CHAT_TEST_SEED=7` repeats one schedule, `CHAT_TEST_LONG=1` runs many.

mod backups;
mod damage;
mod model;
mod random;
mod reader;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use backups::{BackupOf, RestoreInto};
use model::ROOMS;
use random::Random;
use world::{End, World};

use crate::support::is_long_run;

const READERS: usize = 3;
/// Schedules at the same time.
const THREADS: usize = 3;
/// Lines of a reader that a failure shows.
const SHOWN_LINES: usize = 80;

#[derive(Clone, Debug)]
enum Step {
    Say {
        room: usize,
        users: usize,
        each: u32,
        crash: bool,
    },
    Restart(End),
    Move {
        end: End,
        only_needed: bool,
    },
    BackUp(BackupOf),
    Restore {
        end: End,
        newest: bool,
        into: RestoreInto,
    },
    LoseWal,
    Prune {
        keep: u64,
    },
    DeleteRecords {
        count: usize,
    },
    FlipBytes {
        end: End,
        count: usize,
    },
    Rotate,
    /// A reader comes, or waits until it is in step and leaves. `after_message`: first, a message is sent
    /// to each room, so that nothing more can come before it.
    ComeOrGo {
        reader: usize,
        after_message: bool,
    },
}

fn end(random: &mut Random) -> End {
    random.pick(&[End::Clean, End::Crash])
}

fn backup_of(random: &mut Random) -> BackupOf {
    match random.below(4) {
        0 => BackupOf::Stopped(End::Crash),
        1 => BackupOf::Running,
        2 => BackupOf::RunningUnderLoad,
        _ => BackupOf::Stopped(End::Clean),
    }
}

fn restore_into(random: &mut Random) -> RestoreInto {
    use RestoreInto::*;
    random.pick(&[Empty, Empty, Present, InPlace, MainFileOnly])
}

fn say(random: &mut Random, crash: bool) -> Step {
    let (room, users) = (random.below(ROOMS.len()), 1 + random.below(3));
    Step::Say { room, users, each: 1 + random.below(4) as u32, crash }
}

fn come_or_go(random: &mut Random) -> Step {
    Step::ComeOrGo { reader: random.below(READERS), after_message: random.chance(50) }
}

/// The next steps; some make sense only together.
fn choose(random: &mut Random, pruned: &mut bool) -> Vec<Step> {
    match random.below(38) {
        0..9 => vec![say(random, false)],
        9 => vec![say(random, true)],
        10..12 => vec![Step::Restart(end(random))],
        12..14 => vec![Step::Move { end: end(random), only_needed: random.chance(50) }],
        14..16 => vec![Step::BackUp(backup_of(random))],
        16..18 => {
            let (end, into) = (end(random), restore_into(random));
            vec![Step::Restore { end, newest: false, into }]
        }
        // A reader reads what the restored backup lacks; then as much may be said anew.
        18..22 => {
            let first = Step::BackUp(backup_of(random));
            let (reader, into) = (random.below(READERS), restore_into(random));
            let lost = say(random, false);
            let reads = [false, true].map(|_| Step::ComeOrGo { reader, after_message: false });
            let back = Step::Restore { end: end(random), newest: true, into };
            let mut steps = vec![first, lost];
            steps.extend(reads.clone());
            steps.push(back);
            if random.chance(70) {
                steps.push(say(random, false));
            }
            steps.extend(reads);
            steps
        }
        22 => vec![Step::LoseWal],
        23 if !*pruned => {
            *pruned = !is_long_run();
            vec![Step::Prune { keep: 1 + random.below(6) as u64 }]
        }
        24..26 => vec![Step::DeleteRecords { count: 1 + random.below(3) }],
        26 => vec![Step::FlipBytes { end: end(random), count: 1 + random.below(3) }],
        27 => vec![Step::Rotate],
        _ => vec![come_or_go(random)],
    }
}

fn run(seed: u64, done: &Mutex<Vec<String>>, world: &mut World) {
    let mut random = Random::new(seed);
    let steps = if is_long_run() { 60 } else { 22 };
    let (mut planned, mut pruned) = (VecDeque::new(), false);
    for number in 1..=steps {
        while planned.is_empty() {
            planned.extend(choose(&mut random, &mut pruned));
        }
        let step = planned.pop_front().unwrap();
        let restores = matches!(step, Step::Restore { .. });
        if restores && !world.has_backups() {
            continue;
        }
        done.lock().unwrap().push(format!("{number}. {step:?}"));
        // Most readers are in step when the next thing happens.
        for reader in 0..READERS {
            if world.readers[reader].is_there() && random.chance(70) {
                world.settle(reader);
            }
        }
        let start = world.start();
        carry_out(step, world, &mut random);
        if world.start() != start {
            let note = format!("-- start {} of the server", world.start());
            world.readers.iter_mut().for_each(|reader| reader.story.push(note.clone()));
        }
    }
    done.lock().unwrap().push("at the end everyone reads everything".into());
    let start = world.start();
    for reader in &mut world.readers {
        if !reader.is_there() {
            reader.come(&world.server, start);
        }
    }
    for room in 0..ROOMS.len() {
        world.say(room, 1, 1, false);
    }
    (0..READERS).for_each(|reader| world.settle(reader));
    world.check_history();
    assert!(world.server.stop().success());
}

fn carry_out(step: Step, world: &mut World, random: &mut Random) {
    match step {
        Step::Say { room, users, each, crash } => world.say(room, users, each, crash),
        Step::Restart(end) => world.restart(end),
        Step::Move { end, only_needed } => world.move_folder(end, only_needed),
        Step::BackUp(of) => world.back_up(of),
        Step::Restore { end, newest, into } => world.restore(end, newest, into, random),
        Step::LoseWal => world.lose_wal(),
        Step::Prune { keep } => world.prune(keep),
        Step::DeleteRecords { count } => world.delete_records(count, random),
        Step::FlipBytes { end, count } => world.flip_bytes(end, count, random),
        Step::Rotate => world.rotate(),
        Step::ComeOrGo { reader, after_message } => {
            if world.readers[reader].is_there() {
                if after_message {
                    (0..ROOMS.len()).for_each(|room| world.say(room, 1, 1, false));
                }
                world.settle(reader);
                world.readers[reader].leave();
            } else {
                let start = world.start();
                world.readers[reader].come(&world.server, start);
            }
        }
    }
}

/// Runs one schedule; an error is the whole story of its failure.
fn story_of(seed: u64) -> Result<(), String> {
    let done = Mutex::new(Vec::new());
    let mut world = World::new(READERS);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, &done, &mut world)));
    let Err(panic) = outcome else { return Ok(()) };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let mut story = vec![
        format!("seed {seed}: {}", text.unwrap_or_default()),
        format!("repeat it with CHAT_TEST_SEED={seed}; the schedule:"),
    ];
    story.append(&mut done.into_inner().unwrap());
    for (room, name) in ROOMS.iter().enumerate() {
        story.push(format!("{name} holds {:?}", world.record.rooms[room]));
    }
    story.push(format!("the store knows the starts {:?}", world.record.starts));
    for reader in &world.readers {
        story.push(format!("{} printed:", reader.name()));
        let first = reader.story.len().saturating_sub(SHOWN_LINES);
        story.extend(reader.story[first..].iter().map(|line| format!("  {line}")));
    }
    story.push("the server log:".into());
    let log = world.server.log_lines();
    story.extend(log.iter().rev().take(30).rev().map(|line| format!("  {line}")));
    Err(story.join("\n"))
}

#[test]
fn p7_whatever_happens_to_the_folder_no_reader_misses_anything_in_silence() {
    let seeds = match std::env::var("CHAT_TEST_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("CHAT_TEST_SEED is a number");
            seed..=seed
        }
        Err(_) => 1..=if is_long_run() { 200 } else { 8 },
    };
    let (seeds, failures) = (Mutex::new(seeds), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else { return };
                    if let Err(story) = story_of(seed) {
                        eprintln!("{story}\n");
                        failures.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "seeds that failed: {failures:?}; their stories are above");
}
