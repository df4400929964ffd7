//! The server. See `secure_chat::server`.

/// glibc's keeps what a crowd of short-lived connections held; this one gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    secure_chat::server::main()
}
