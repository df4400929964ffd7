//! The program `chat-server`; its code is in `secure_chat::server`.

/// jemalloc returns the memory of many short-lived connections to the system; glibc's malloc keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    secure_chat::server::main()
}
