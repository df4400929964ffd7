//! `chat-client` in a pipe.

use std::time::Duration;

use crate::support::client::{Client, command};
use crate::support::server::Server;
use crate::support::{eventually, load_lock};

const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

#[test]
fn each_line_is_one_message_and_exit_0_means_stored() {
    let server = Server::start();
    let listener = Client::start(&[&server.url(), "--listen", "--events", "-u", "ear"]);
    listener.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
    let sent =
        Client::pipe(&[&server.url(), "-u", "Alice"], "Hola Bob!\núltima sin salto".as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    assert_eq!(sent.texts(), ["Hola Bob!", "última sin salto"], "own messages are printed too");
    let received = listener.wait_for_text("última sin salto");
    assert_eq!((&received["username"], received["seq"].as_u64()), (&"Alice".into(), Some(2)));
    assert!(listener.frames().iter().all(|frame| frame.get("key").is_none()), "no key is printed");
    let history = Client::pipe(&["history", "--url", &server.url()], b"");
    assert_eq!(history.texts(), ["Hola Bob!", "última sin salto"]);
}

#[test]
fn p6_ten_thousand_lines_through_a_restart() {
    let _lock = load_lock();
    // At this pace some lines are in flight at any moment; a restart could lose those.
    let mut server = Server::with("[limits]\nrate_messages = 4000\nrate_per = \"1s\"\n").start();
    let mut client = Client::start(&[&server.url(), "--room", "ops"]);
    let lines: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    let (first, last) = lines.split_at(lines.len() - "10000\n".len());
    client.write(first);
    client.wait_for_text("1000");
    server.kill();
    assert!(!client.lines().iter().any(|line| line.contains(r#""9999""#)), "in the middle");
    server.start_again();
    // A last line without a newline counts.
    client.write(last.trim_end());
    let sent = client.finish(Duration::from_secs(60));
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let history = Client::pipe(&["history", "--url", &server.url(), "-r", "ops"], b"");
    let expected: Vec<String> = (1..=10_000).map(|number| number.to_string()).collect();
    assert!(
        history.texts() == expected,
        "10,000, in order, once: {} stored",
        history.texts().len()
    );
}

#[test]
fn lines_that_cannot_be_sent_are_named_and_the_rest_is_sent() {
    let server = Server::start();
    let mut input = b"uno\n\xff\xfe\n".to_vec();
    input.extend_from_slice("x".repeat(5000).as_bytes());
    input.extend_from_slice(b"\ndos\n");
    let sent = Client::pipe(&[&server.url()], &input);
    assert_eq!(sent.code, Some(65));
    assert_eq!(sent.texts(), ["uno", "dos"]);
    assert!(sent.errors.contains("line 2") && sent.errors.contains("line 3"), "{}", sent.errors);
}

#[test]
fn nul_separated_json_and_whole_input_is_accepted() {
    let server = Server::start();
    let nul = Client::pipe(&[&server.url(), "-0"], b"a\nb\0c");
    assert_eq!(nul.texts(), ["a\nb", "c"]);
    let json = b"{\"room\":\"ops\",\"content\":\"in ops\"}\n{\"content\":\"here\"}\nnonsense\n\
        {\"room\":\"No Room\",\"content\":\"nowhere\"}\n";
    let json = Client::pipe(&[&server.url(), "--input", "json"], json);
    assert_eq!(json.code, Some(65));
    assert!(json.errors.contains("line 3") && json.errors.contains("line 4"), "{}", json.errors);
    let ops = Client::pipe(&["history", "--url", &server.url(), "--room", "ops"], b"");
    assert_eq!(ops.texts(), ["in ops"]);
    let one = Client::pipe(&["send", "--url", &server.url()], b"two\nlines\n");
    assert_eq!((one.code, one.lines.len()), (Some(0), 0));
    let last = Client::pipe(&["history", "--url", &server.url(), "-n", "1"], b"");
    assert_eq!(last.texts(), ["two\nlines"]);
}

#[test]
fn send_with_the_same_id_stores_one_message() {
    let server = Server::start();
    for _ in 0..3 {
        let sent =
            Client::pipe(&["send", "--url", &server.url(), "--id", "alarm-7", "disk full"], b"");
        assert_eq!(sent.code, Some(0), "{}", sent.errors);
    }
    let history = Client::pipe(&["history", "--url", &server.url()], b"");
    assert_eq!(history.texts(), ["disk full"]);
}

#[test]
fn exit_codes_tell_what_happened() {
    let nobody = Client::pipe(&["ws://127.0.0.1:1", "--timeout", "1s"], b"x\n");
    assert_eq!(nobody.code, Some(69));
    assert!(nobody.errors.contains("is the server running"), "{}", nobody.errors);
    let usage = Client::pipe(&["ftp://x"], b"");
    assert_eq!(usage.code, Some(2));
    let room = Client::pipe(&["--room", "No Room"], b"");
    assert_eq!(room.code, Some(2), "{}", room.errors);
}

#[test]
fn giving_up_names_the_unacked_lines() {
    let mut server = Server::start();
    let mut client = Client::start(&[&server.url(), "--timeout", "2s"]);
    client.write("uno\n");
    client.wait_for_text("uno");
    server.kill();
    client.write("dos\n");
    client.end_input();
    let ended = client.wait_for_exit(Duration::from_secs(30));
    assert_eq!(ended.code, Some(75), "{}", ended.errors);
    assert!(ended.errors.contains("line 2"), "{}", ended.errors);
}

#[test]
fn a_closed_output_pipe_ends_the_client_quietly() {
    let server = Server::start();
    let script = "printf 'a\\nb\\n' | \"$0\" \"$1\" | head -n 1; echo \"${PIPESTATUS[1]}\"";
    let output = std::process::Command::new("bash")
        .args(["-c", script])
        .arg(command().get_program())
        .arg(server.url())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with("\n0\n"), "{printed}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn count_and_plain_output() {
    let server = Server::start();
    let mut listener = Client::start(&[&server.url(), "-l", "-n", "2", "--output", "plain"]);
    eventually("the listener is connected", || server.event_count("session_opened") == 1);
    Client::pipe(&[&server.url(), "-u", "Eva"], b"uno\ndos\ntres\n");
    let ended = listener.wait_for_exit(Duration::from_secs(20));
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.lines.len(), 2);
    assert!(ended.lines[0].ends_with("] Eva: uno"), "{:?}", ended.lines);
}

#[test]
fn a_bot_answers_others_and_not_itself() {
    let server = Server::start();
    let bot = Client::start(&[
        &server.url(),
        "-u",
        "bot",
        "-l",
        "--events",
        "--exec",
        "echo \"eco $CHAT_USERNAME\"; cat >/dev/null",
    ]);
    bot.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
    let eva = Client::start(&[&server.url(), "-u", "Eva", "--follow"]);
    let mut eva = eva;
    eva.write("hola\n");
    eva.wait_for_text("eco Eva");
    bot.wait_for_text("eco Eva");
    assert_eq!(server.event_count("session_opened"), 2);
    assert_eq!(bot.frames().iter().filter(|frame| frame["type"] == "chat_message").count(), 2);
}

#[test]
fn a_cursor_resumes_after_the_last_message() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let cursor = cursor.to_str().unwrap();
    let read = |count: &str| {
        let url = server.url();
        Client::pipe(&[&url, "-l", "--cursor", cursor, "--since", "all", "-n", count], b"").texts()
    };
    Client::pipe(&[&server.url()], b"uno\ndos\n");
    assert_eq!(read("2"), ["uno", "dos"]);
    Client::pipe(&[&server.url()], b"tres\ncuatro\n");
    assert_eq!(read("1"), ["tres"]);
    assert_eq!(read("1"), ["cuatro"]);
}

#[test]
fn a_listener_loses_and_repeats_nothing_across_a_restart() {
    let mut server = Server::with(FAST).start();
    let listener = Client::start(&[&server.url(), "-l", "--events", "-u", "ear"]);
    listener.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
    Client::pipe(&[&server.url()], b"before\n");
    listener.wait_for_text("before");
    server.stop();
    server.start_again();
    Client::pipe(&[&server.url()], b"while away, perhaps\n");
    Client::pipe(&[&server.url()], b"after\n");
    listener.wait_for_text("after");
    let texts: Vec<String> = listener
        .frames()
        .iter()
        .filter_map(|frame| frame["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(texts, ["before", "while away, perhaps", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_websocket_frame_is_closed_with_1002_and_exits_76() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = tokio::task::spawn_blocking(move || Client::pipe(&[&url], b"hola\n"));
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let stream = socket.get_mut();
    // A frame with a reserved opcode.
    stream.write_all(&[0x83, 0]).await.unwrap();
    let mut received = Vec::new();
    let _ = tokio::time::timeout(crate::support::TIMEOUT, stream.read_to_end(&mut received)).await;
    // The last frame is a close frame (0x88), masked, with two bytes: 1002.
    let last = &received[received.len() - 8..];
    let number = u16::from_be_bytes([last[6] ^ last[2], last[7] ^ last[3]]);
    assert_eq!((last[0], last[1], number), (0x88, 0x82, 1002));
    let ended = client.await.unwrap();
    assert_eq!(ended.code, Some(76), "{}", ended.errors);
    assert!(ended.errors.contains("does not speak WebSocket"), "{}", ended.errors);
}

#[test]
fn a_server_that_asks_for_a_longer_pause_than_the_timeout_ends_the_run_at_once() {
    let server = Server::with("[limits]\nrooms = 1\n").start();
    let url = server.url();
    assert_eq!(Client::pipe(&[&url, "-r", "one"], b"x\n").code, Some(0));
    for (arguments, input, unstored) in [
        (&[&url, "-r", "new"][..], &b"x\n"[..], "; not known to be stored: line 1"),
        (&["history", "--url", &url, "-r", "new"], b"", ""),
        (
            &["send", "--url", &url, "-r", "new", "hi"],
            b"",
            "; the message is not known to be stored",
        ),
    ] {
        let ended = Client::pipe(arguments, input);
        assert_eq!(ended.code, Some(69), "{}", ended.errors);
        let lines: Vec<&str> = ended.errors.lines().collect();
        let [line] = lines[..] else { panic!("{}", ended.errors) };
        assert!(line.contains("the server did not let the client in: "), "{line}");
        assert!(line.contains("limits.rooms"), "{line}");
        let end = format!(
            "(rooms_full); it asks for a pause of 1m, which is longer than --timeout (30s){unstored}"
        );
        assert!(line.ends_with(&end), "{line}");
    }
    assert_eq!(server.event_count("register_refused"), 3, "one attempt each");
}

#[test]
fn a_refusal_after_a_restart_is_told_once() {
    let mut server = Server::start();
    let mut client = Client::start(&[&server.url(), "-u", "ana", "--follow"]);
    client.write("x\n");
    client.wait_for_text("x");
    server.stop();
    let tokens = std::fs::read_to_string(server.config_file()).unwrap();
    std::fs::write(server.config_file(), format!("{tokens}\n[auth]\nmode = \"token\"\n")).unwrap();
    server.start_again();
    let ended = client.wait_for_exit(Duration::from_secs(30));
    assert_eq!(ended.code, Some(77), "{}", ended.errors);
    assert_eq!(ended.errors.matches("(unauthorized)").count(), 1, "{}", ended.errors);
}
