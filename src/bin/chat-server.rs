//! The server. See `secure_chat::server`.

fn main() -> std::process::ExitCode {
    secure_chat::server::main()
}
