//! The program `chat-client`; its code is in `secure_chat::client`.

fn main() -> std::process::ExitCode {
    secure_chat::client::main()
}
