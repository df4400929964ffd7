//! What people install: the lists of files of the Debian packages, their units, and the tarball's install.sh. Nothing
//! is built here; `scripts/test-systemd` installs the real packages in a booted system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::programs;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `[package.metadata.deb.variants.NAME]`
fn variant(name: &str) -> toml::Table {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    manifest["package"]["metadata"]["deb"]["variants"][name].as_table().unwrap().clone()
}

/// The files of a package: where each comes from, and where it goes.
fn assets(name: &str) -> Vec<(String, String)> {
    let variant = variant(name);
    let assets = variant["assets"].as_array().unwrap().iter();
    let word = |asset: &toml::Value, number: usize| asset[number].as_str().unwrap().to_owned();
    assets.map(|asset| (word(asset, 0), word(asset, 1))).collect()
}

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(root()).output().unwrap()
}

/// Runs a program that must succeed, and gives what it printed.
fn done(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}: {printed}", output.status);
    printed
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every path below a folder; those of folders end with a slash.
fn tree(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(format!("{}/", path.display()));
                folders.push(path);
            } else {
                found.insert(path.display().to_string());
            }
        }
    }
    found
}

/// The files of the tarball, with the programs under test.
fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let server = programs::server();
    let programs = text(server.parent().unwrap());
    done("scripts/package", &["--folder", text(folder.path()), "--programs", programs]);
    folder
}

#[test]
fn the_packages_name_files_that_exist() {
    let stage = "target/package/stage/";
    for name in ["server", "client"] {
        let assets = assets(name);
        for (from, _) in &assets {
            let is_made =
                |kind: &str| from.strip_prefix(stage).and_then(|it| it.strip_prefix(kind));
            let source = if let Some(unit) = is_made("systemd/") {
                format!("systemd/{unit}")
            } else if from == &format!("target/release/chat-{name}") {
                format!("src/bin/chat-{name}.rs")
            } else if from.starts_with(stage) {
                // Manual pages and completions come from the program, and the licences from its crates.
                let program = is_made("man/").or(is_made("completions/"));
                let program = program.map(|file| file.trim_start_matches('_').contains(name));
                let is_known = program.is_some_and(|is_own| is_own)
                    || from.ends_with("/ngrok-sidecar.1")
                    || from.ends_with("/THIRD-PARTY-LICENSES");
                assert!(is_known, "{from}: scripts/package makes no such file");
                continue;
            } else {
                from.trim_end_matches("/*.md").to_owned()
            };
            assert!(root().join(&source).exists(), "{from} does not exist ({source})");
        }
        let places: Vec<&str> = assets.iter().map(|(_, to)| &to[..]).collect();
        for place in [
            "usr/bin/",
            "usr/lib/systemd/system/",
            "usr/share/man/man1/",
            &format!("usr/share/bash-completion/completions/chat-{name}"),
            "usr/share/zsh/vendor-completions/",
            "usr/share/fish/vendor_completions.d/",
        ] {
            assert!(places.contains(&place), "{name}: nothing goes to {place}");
        }
        let scripts = variant(name)["maintainer-scripts"].as_str().unwrap().to_owned();
        for script in ["postinst", "prerm", "postrm"] {
            let path = root().join(&scripts).join(script);
            done("sh", &["-n", text(&path)]);
            done("shellcheck", &[text(&path)]);
        }
    }
    // Every unit is in one package.
    let packaged: BTreeSet<String> = ["server", "client"]
        .iter()
        .flat_map(|name| assets(name))
        .filter_map(|(from, _)| from.strip_prefix(&format!("{stage}systemd/")).map(Into::into))
        .collect();
    let units = std::fs::read_dir(root().join("systemd")).unwrap();
    let units = units.map(|unit| unit.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(packaged, units);
}

#[test]
fn the_units_of_the_packages_start_programs_of_the_packages() {
    let folder = tempfile::tempdir().unwrap();
    done("scripts/package", &["--units", text(folder.path())]);
    let in_bin = |(from, to): (String, String)| (to == "usr/bin/").then_some(from);
    let packaged: BTreeSet<String> = ["server", "client"]
        .iter()
        .flat_map(|name| assets(name).into_iter().filter_map(in_bin))
        .map(|from| format!("/usr/bin/{}", Path::new(&from).file_name().unwrap().display()))
        .collect();
    let mut started = BTreeSet::new();
    for path in tree(folder.path()) {
        let unit = std::fs::read_to_string(&path).unwrap();
        for line in unit.lines().filter_map(|line| line.strip_prefix("Exec")) {
            let program = line.split_once('=').unwrap().1.split(' ').next().unwrap();
            if program != "/bin/sh" {
                started.insert(program.to_owned());
            }
        }
        // A bot is no program of the package.
        let comments = unit.lines().filter(|line| line.starts_with('#')).collect::<String>();
        assert_eq!(path.ends_with("chat-bot@.service"), comments.contains("/usr/local/bin/my-bot"));
    }
    assert_eq!(started, packaged);
}

#[test]
fn install_sh_puts_and_removes_exactly_its_files() {
    let unpacked = unpacked();
    let script = unpacked.path().join("install.sh");
    done("sh", &["-n", text(&script)]);
    done("shellcheck", &["etc/install.sh"]);
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("a prefix");
    std::fs::create_dir_all(prefix.join("bin")).unwrap();
    std::fs::write(prefix.join("bin/mine"), "").unwrap();
    let before = tree(&prefix);

    let at = ["--prefix", text(&prefix)];
    let told = done(&script, &[&at[..], &["--client"]].concat());
    assert!(told.contains("--uninstall"), "{told}");
    let programs = |prefix: &Path| {
        ["chat-client", "chat-server"].map(|name| prefix.join("bin").join(name).exists())
    };
    assert_eq!(programs(&prefix), [true, false]);
    assert!(done(prefix.join("bin/chat-client"), &["--version"]).contains("chat-client"));

    // Again, now as the tests' user is: root gets both programs, others the client.
    let told = done(&script, &at);
    let is_root = programs(&prefix)[1];
    assert!(is_root || told.contains("not root"), "{told}");
    let list = std::fs::read_to_string(prefix.join("share/secure-chat/installed")).unwrap();
    let listed: BTreeSet<String> = list.lines().map(Into::into).collect();
    let now = tree(&prefix);
    let new: BTreeSet<String> = now.difference(&before).cloned().collect();
    assert_eq!(listed, new);
    let unit =
        std::fs::read_to_string(prefix.join("lib/systemd/system/chat-bot@.service")).unwrap();
    let start = format!("\nExecStart={}/bin/chat-client ", prefix.display());
    assert!(unit.contains(&start), "{unit}");

    // The copy that was installed knows its prefix.
    done(prefix.join("share/secure-chat/install.sh"), &["--uninstall"]);
    assert_eq!(tree(&prefix), before);
}

#[test]
fn install_sh_refuses_plainly_what_it_cannot_do() {
    let unpacked = unpacked();
    let script = unpacked.path().join("install.sh");
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let machine = unpacked.path().join("machine");
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = run(&script, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
        for word in words {
            assert!(told.contains(word), "{arguments:?}: {told}");
        }
        assert!(!prefix.exists(), "{arguments:?}");
    };
    let at = text(&prefix);
    refused(&["--prefx", at], 2, &["--prefx", "--help"]);
    refused(&["--prefix"], 2, &["--prefix needs a value"]);
    refused(&["--prefix", at, "--uninstall"], 1, &["nothing was installed", at]);
    refused(&["--prefix", text(&file)], 1, &[text(&file), "--prefix"]);
    std::fs::write(&machine, "pdp11\n").unwrap();
    refused(&["--prefix", at], 1, &["pdp11"]);
    let as_found = Command::new("uname").arg("-m").output().unwrap();
    std::fs::write(&machine, as_found.stdout).unwrap();
    // A program that does not start, as one for another C library.
    let client = unpacked.path().join("programs/chat-client");
    std::fs::write(&client, "#!/bin/false\n").unwrap();
    refused(&["--prefix", at], 1, &["chat-client does not run here", "glibc 2.36"]);
}

/// The files that are read above are in the package of the sources, too.
#[test]
fn the_container_is_made_from_the_package() {
    let path: PathBuf = root().join("etc/Containerfile");
    let file = std::fs::read_to_string(&path).unwrap();
    let script = std::fs::read_to_string(root().join("scripts/package")).unwrap();
    assert!(file.contains("source=chat-server.deb") && script.contains("package/chat-server.deb"));
    assert!(file.contains("ENTRYPOINT [\"/usr/bin/chat-server\"]"), "{file}");
    // Settings in the environment must be keys of the configuration.
    let settings: Vec<&str> =
        file.split_whitespace().filter(|word| word.starts_with("CHAT_SERVER_")).collect();
    let settings = settings.iter().map(|setting| setting.split_once('=').unwrap());
    let checked = Command::new(programs::server()).arg("check").envs(settings).output().unwrap();
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}");
    let printed = String::from_utf8_lossy(&checked.stdout);
    assert!(printed.contains("0.0.0.0") && printed.contains("mode = \"token\""), "{printed}");
}
