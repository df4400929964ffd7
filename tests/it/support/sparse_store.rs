//! Running the tests over a store in memory that leaves out sequence numbers.
//!
//! With `CHAT_TEST_STORE=sparse` in the environment of the tests, every server starts over such a store, except in the
//! tests that need the disk or that expect certain numbers.

/// The environment variable, of the tests and of the server.
pub const VARIABLE: &str = "CHAT_TEST_STORE";

/// Its value.
pub const SPARSE: &str = "sparse";

/// The environment of a server over such a store.
pub const ENVIRONMENT: [(&str, &str); 2] =
    [(VARIABLE, SPARSE), ("CHAT_SERVER_HISTORY__STORE", "memory")];

/// Tests whose servers need the disk: they start again, are copied, or have their files looked at. Each name stands for
/// all tests whose names begin with it.
const NEED_THE_DISK: [&str; 0] = [];

/// Tests that expect certain numbers.
const EXPECT_NUMBERS: [&str; 0] = [];

/// Whether the tests run over such a store.
pub fn is_asked_for() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == SPARSE)
}

/// Whether the running test does.
pub fn holds_here() -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let mut exceptions = NEED_THE_DISK.iter().chain(&EXPECT_NUMBERS);
    is_asked_for() && !exceptions.any(|name| test.starts_with(name))
}
