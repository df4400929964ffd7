//! Running the tests over a store in memory that leaves out sequence numbers.
//!
//! With `CHAT_TEST_STORE=sparse` in the environment of the tests, every server starts over such a store, except in the
//! tests that need the disk or that expect certain numbers. With `tails` the store also has several logs, whose messages
//! come by tails.

/// The environment variable, of the tests and of the server.
pub const VARIABLE: &str = "CHAT_TEST_STORE";

/// Its values.
pub const SPARSE: &str = "sparse";
pub const TAILS: &str = "tails";

/// The environment of a server over the store of this name.
pub fn environment(store: &str) -> [(&str, &str); 2] {
    [(VARIABLE, store), ("CHAT_SERVER_HISTORY__STORE", "memory")]
}

/// Tests whose servers need the disk: they start again, are copied, have their files looked at, or hold what a store in
/// memory holds against them. Each name stands for all tests whose names begin with it.
const NEED_THE_DISK: [&str; 34] = [
    "abuse::a_file_size_limit",
    "abuse::rooms_keep_no_memory",
    "at_rest::",
    "backup::",
    "bots::backlog::a_backlog_survives",
    "bots::examples::the_logger_resumes",
    "client::p6_",
    "configuration::p15_",
    "full::open::a_repeated_id",
    "full::open::welcome_gives",
    "full::secured::a_repeated_id",
    "full::secured::welcome_gives",
    "health::p20_a_full_disk",
    "history::a_disk",
    "history::a_long_opening",
    "history::history_max_bytes",
    "history::p4_",
    "http_follow::p7_",
    "http_outages::p5_over_http_a_killed",
    "http_senders::the_loop",
    "identity::",
    "logging::collectors",
    "metrics::the_page",
    "operator_status::",
    "ownership::",
    "packages::",
    "page::conversation::two_browsers",
    "page::offline::",
    "reliability::crowd::p13_",
    "reliability::p1_",
    "reliability::p16_",
    "reliability::schedule",
    "reliability::storage::",
    "systemd::",
];

/// Tests that expect certain numbers.
const EXPECT_NUMBERS: [&str; 32] = [
    "bots::backlog::a_backlog_stays",
    "bots::command::a_command_that_hangs",
    "bots::command::the_command_gets",
    "bots::resume::",
    "client::each_line",
    "deletion::",
    "failures::a_store_that_does_not_answer",
    "full::open::history",
    "full::open::missing",
    "full::open::resume",
    "full::secured::history",
    "full::secured::missing",
    "full::secured::resume",
    "http::open::a_posted",
    "http::open::a_room",
    "http::secured::a_posted",
    "http::secured::a_room",
    "http_follow::a_deleted",
    "http_follow::a_follower",
    "http_rights::p23_over_http_each_role",
    "http_senders::commands",
    "operator::ctl",
    "operator::every",
    "operator_table::",
    "pipe::a_file_that_was_full",
    "pipe::a_pipe_prints",
    "pipe::a_start_above",
    "pipe::moments",
    "pipe::the_cursor",
    "pipe::two_rooms",
    "protocol::every_frame",
    "sample_clients::the_javascript_client_works_in_a_browser",
];

/// The store that the running test is to run over, if the tests run over such a store.
pub fn of_this_test() -> Option<&'static str> {
    let asked_for = std::env::var(VARIABLE).ok()?;
    let store = [SPARSE, TAILS].into_iter().find(|store| *store == asked_for)?;

    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let mut exceptions = NEED_THE_DISK.iter().chain(&EXPECT_NUMBERS);
    (!exceptions.any(|name| test.starts_with(name))).then_some(store)
}
