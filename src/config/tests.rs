use super::raw::RawConfig;
use super::schema::all_keys;
use super::{Config, ConfigError, Durability, Sources};

const EXAMPLE: &str = include_str!("../../etc/chat-server.toml");

fn load(file: &str) -> Result<Config, ConfigError> {
    load_with(file, &[])
}

fn load_with(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, file).unwrap();
    let environment = [("HOME", "/home/test")]
        .iter()
        .chain(environment)
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Config::load(&Sources { file: Some(path), environment, ..Sources::default() })
}

#[test]
fn the_example_file_has_the_defaults() {
    let example = load(EXAMPLE).unwrap();
    assert_eq!(example.raw, RawConfig::default());
}

#[test]
fn the_example_file_has_every_key_even_optional_ones() {
    for key in all_keys() {
        let name = key.rsplit('.').next().unwrap();
        assert!(
            EXAMPLE.contains(&format!("{name} = ")) || EXAMPLE.contains(&format!("[{name}]")),
            "{key} is not in etc/chat-server.toml"
        );
    }
}

#[test]
fn later_sources_override_earlier_ones() {
    let config = load_with(
        "[listen]\nport = 1000\n[limits]\nrate_messages = 7",
        &[
            ("CHAT_SERVER_LISTEN__PORT", "2000"),
            ("CHAT_SERVER_HISTORY__PATH", "12345"),
            ("HOME", "/h"),
        ],
    )
    .unwrap();
    assert_eq!(config.listen.addresses[0].port(), 2000);
    assert_eq!(config.limits.rate_messages, 7);
    assert_eq!(config.history.path.to_str(), Some("12345"));
}

#[test]
fn every_problem_names_its_source_key_value_and_what_is_allowed() {
    for (file, words) in [
        ("[listen]\nprot = 1", &["c.toml", "unknown key `listen.prot`", "listen.port"][..]),
        ("[lisen]\nport = 1", &["unknown key `lisen`", "listen"]),
        ("[listen]\nport = \"x\"", &["listen.port", "\"x\"", "whole number"]),
        ("[listen]\nport = 70000", &["listen.port", "70000", "0 to 65535"]),
        ("[listen]\nhost = \"0.0.0.0\"", &["listen.host", "0.0.0.0", "allow_open"]),
        ("[listen]\nhost = [1]", &["listen.host", "[1]", "address"]),
        ("[listen\n", &["c.toml:1:", "TOML"]),
        ("[limits]\nregister_timeout = \"soon\"", &["limits.register_timeout", "soon", "10s"]),
        ("[limits]\nrate_messages = 0", &["limits.rate_messages", "0", "from 1"]),
        ("[limits]\nmessage_chars = 60000", &["limits.frame_bytes", "limits.message_chars"]),
        ("[keys]\nrotate_every = \"10ms\"", &["keys.rotate_every", "1s"]),
        ("[history]\nstore = \"tape\"", &["history.store", "tape", "disk"]),
        ("[history]\nmax_bytes = 1000", &["history.max_bytes", "1000", "131072"]),
        ("[limits]\nrooms = 0", &["limits.rooms", "0", "from 1"]),
        ("[auth]\nmode = true", &["auth.mode", "true", "quotes"]),
        ("[listen.tls]\ncertificate = \"/no\"\nkey = \"/no\"", &["listen.tls.certificate", "/no"]),
    ] {
        let error = load(file).unwrap_err();
        let text = error.problems[0].to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        for word in words {
            assert!(text.contains(word), "{file:?} gives {text:?}, without {word:?}");
        }
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let error = load("[limits]\nrate_messages = 0\nregister_timeout = \"x\"").unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    let error = load_with("", &[("CHAT_SERVER_X__Y", "1"), ("CHAT_SERVER_LISTEN__PORT", "x")]);
    assert_eq!(error.unwrap_err().problems.len(), 2);
}

#[test]
fn unusable_files_are_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let error_of = |path: std::path::PathBuf| {
        Config::load(&Sources { file: Some(path), ..Sources::default() }).unwrap_err().to_string()
    };
    assert!(error_of(folder.path().to_owned()).contains("directory"));
    assert!(error_of(folder.path().join("none")).contains("can't be opened"));
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(100 << 20).unwrap();
    assert!(error_of(large).contains("1 MiB"));
    let binary = folder.path().join("binary");
    std::fs::write(&binary, b"a = \"\xff\"").unwrap();
    assert!(error_of(binary).contains("UTF-8"));
}

#[test]
fn the_default_file_is_optional_and_looked_for_at_each_load() {
    let folder = tempfile::tempdir().unwrap();
    let default_file = folder.path().join("chat-server.toml");
    let environment = [("HOME".to_owned(), "/home/test".to_owned())].into();
    let sources =
        Sources { default_file: Some(default_file.clone()), environment, ..Sources::default() };
    let port = || Config::load(&sources).map(|config| config.raw.listen.port);
    assert_eq!(port().unwrap(), 8765);
    std::fs::write(&default_file, "[listen]\nport = 9000\n").unwrap();
    assert_eq!(port().unwrap(), 9000);
    std::fs::write(&default_file, "[listen").unwrap();
    let named = port().unwrap_err().to_string();
    assert!(named.contains("chat-server.toml"), "{named}");
}

#[test]
fn without_a_state_folder_the_keys_that_need_one_are_named() {
    let error = Config::load(&Sources::default()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems.len(), 2, "{text}");
    for word in ["auth.access_file", "history.path", "STATE_DIRECTORY", "HOME"] {
        assert!(text.contains(word), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[auth]\naccess_file = \"/a\"\n[history]\nstore = \"memory\"").unwrap();
    Config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
}

#[test]
fn the_folders_of_the_unit_are_used_if_the_environment_names_none() {
    let unit_folders = super::UnitFolders {
        state: Some("/var/lib/chat-server".into()),
        runtime: Some("/run/chat-server".into()),
    };
    let with = |environment: &[(&str, &str)]| {
        let environment =
            environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let unit_folders = unit_folders.clone();
        let config = Config::load(&Sources { environment, unit_folders, ..Sources::default() });
        let config = config.unwrap();
        [config.auth.access_file, config.history.path, config.admin.socket.unwrap()]
            .map(|path| path.display().to_string())
    };
    let of_unit = [
        "/var/lib/chat-server/access.json",
        "/var/lib/chat-server/history",
        "/run/chat-server/admin.sock",
    ];
    assert_eq!(with(&[("HOME", "/root"), ("XDG_RUNTIME_DIR", "/run/user/0")]), of_unit);
    let named = with(&[("STATE_DIRECTORY", "/s"), ("RUNTIME_DIRECTORY", "/r")]);
    assert_eq!(named, ["/s/access.json", "/s/history", "/r/admin.sock"]);
}

#[test]
fn a_cluster_has_the_defaults_of_the_keys_that_no_source_sets() {
    let file = "[history]\nstore = \"jetstream\"\n[cluster]\nservers = [\"a\", \"tls://b:1\"]";
    let variables = [("CHAT_SERVER_CLUSTER__MONITOR", "http://a, http://b:1/")];
    let cluster = load_with(file, &variables).unwrap().cluster.unwrap();
    assert_eq!(cluster.servers, ["nats://a:4222", "tls://b:1"]);
    assert_eq!(cluster.monitor, ["a:8222", "b:1"]);
    assert_eq!((cluster.streams, cluster.replicas, &*cluster.prefix), (4, 3, "chat"));
    assert_eq!(cluster.durability, Durability::Strict);
    assert_eq!(cluster.tls, None);
    let state = "/home/test/.local/state/secure-chat/cluster.key";
    assert_eq!((cluster.key.to_str(), cluster.key_is_named), (Some(state), false));
    let error = load_with(file, &[]).unwrap_err().to_string();
    assert!(error.contains("cluster.monitor") && error.contains("declared"), "{error}");
    let none = ("CHAT_SERVER_CLUSTER__TLS__CA", "/nowhere/ca.pem");
    let error = load_with(file, &[variables[0], none]).unwrap_err().to_string();
    assert!(error.contains("cluster.tls.ca") && !error.contains("missing field"), "{error}");
    let no_pem = ("CHAT_SERVER_CLUSTER__TLS__CA", "/proc/version");
    let error = load_with(file, &[variables[0], no_pem]).unwrap_err().to_string();
    assert!(error.contains("cluster.tls.ca") && error.contains("certificate in PEM"), "{error}");
}
