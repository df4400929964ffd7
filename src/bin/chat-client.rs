//! The client. See `secure_chat::client`.

fn main() -> std::process::ExitCode {
    secure_chat::client::main()
}
