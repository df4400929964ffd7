//! The layers of the architecture: a file imports only from strictly lower layers and from its own top-level folder, and
//! no circle of imports exists between files.

mod circles;
mod imports;

use std::collections::BTreeSet;
use std::path::Path;

use circles::circles;
use imports::{Files, Mention, mentions, other_items, reachable, read};

/// Top-level folders and their layers.
const LAYERS: [(&str, u32); 13] = [
    ("protocol", 0),
    ("policy", 1),
    ("crypto", 1),
    ("conversation", 2),
    ("credentials", 3),
    ("config", 4),
    ("store", 4),
    ("mls", 4),
    ("net", 5),
    ("sys", 5),
    ("server", 6),
    ("client", 6),
    ("bin", 7),
];

/// The highest layer that has no clock, no runtime, no log and no files.
const PURE: u32 = 2;

/// Parts of `server/` and their order. A part that is not listed is at the bottom: it imports nothing from the listed
/// ones.
const SERVER: [(&str, u32); 11] = [
    ("rooms", 1),
    ("cluster", 2),
    ("context", 2),
    ("authenticator", 2),
    ("access_watch", 3),
    ("http", 3),
    ("connection", 4),
    ("admin", 4),
    ("run", 5),
    ("commands", 6),
    ("mod", 7),
];

/// Longest file, in lines without unit tests.
const MAX_LINES: usize = 400;

fn source() -> Files {
    let files = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 40, "the sources were read: {}", files.len());
    files
}

fn layer(file: &str) -> Option<u32> {
    let folder = file.split('/').next().unwrap();
    LAYERS.iter().find(|(known, _)| *known == folder).map(|(_, layer)| *layer)
}

fn server_part(file: &str) -> Option<(&str, u32)> {
    let name = file.strip_prefix("server/")?.split(['/', '.']).next().unwrap();
    let order = SERVER.iter().find(|(known, _)| *known == name).map_or(0, |(_, order)| *order);
    Some((name, order))
}

fn show(mention: &Mention) -> String {
    format!("{}:{}: {}", mention.from, mention.line, mention.path)
}

/// Imports from a layer that is not lower.
fn upward(mentions: &[Mention]) -> Vec<String> {
    let is_upward = |mention: &&Mention| {
        let Some(to) = &mention.to else { return false };
        let folder = |file: &str| file.split('/').next().unwrap().to_owned();
        match (layer(&mention.from), layer(to)) {
            (Some(from), Some(other)) => folder(&mention.from) != folder(to) && other >= from,
            _ => false,
        }
    };
    mentions.iter().filter(is_upward).map(show).collect()
}

/// Imports against the order inside `server/`.
fn upward_in_server(mentions: &[Mention]) -> Vec<String> {
    let is_upward = |mention: &&Mention| {
        let to = mention.to.as_deref().and_then(server_part);
        match (server_part(&mention.from), to) {
            (Some((part, order)), Some((other, its))) => part != other && its > order,
            _ => false,
        }
    };
    mentions.iter().filter(is_upward).map(show).collect()
}

/// Mentions of clocks, the runtime, the log and files.
fn impure(mentions: &[Mention]) -> Vec<String> {
    let is_impure = |mention: &&Mention| {
        let path = &mention.path[..];
        let is_of = |krate: &str| path.starts_with(&format!("{krate}::"));
        let reads_a_clock = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"];
        is_of("tokio")
            || is_of("tracing")
            || path == "std::fs"
            || is_of("std::fs")
            || reads_a_clock.iter().any(|clock| path.ends_with(clock))
    };
    mentions.iter().filter(is_impure).map(show).collect()
}

#[test]
fn files_import_only_from_lower_layers() {
    let files = source();
    let unknown: Vec<_> =
        files.keys().filter(|file| *file != "lib.rs" && layer(file).is_none()).collect();
    assert!(unknown.is_empty(), "in no layer: {unknown:#?}");
    let found = upward(&mentions(&files));
    assert!(found.is_empty(), "imports from a layer that is not lower: {found:#?}");
}

#[test]
fn files_of_the_server_import_only_from_lower_parts() {
    let found = upward_in_server(&mentions(&source()));
    assert!(found.is_empty(), "imports against the order {SERVER:?}: {found:#?}");
}

#[test]
fn no_circle_of_imports_exists() {
    let found = circles(&mentions(&source()));
    assert!(found.is_empty(), "{} circles:\n\n{}\n", found.len(), found.join("\n\n"));
}

#[test]
fn mod_files_hold_only_modules_and_re_exports() {
    let files = source();
    let found: Vec<String> = files
        .iter()
        .filter(|(file, _)| *file == "lib.rs" || file.ends_with("/mod.rs"))
        .filter(|(file, _)| !file.contains("/tests/"))
        .filter_map(|(file, text)| {
            let others: BTreeSet<String> = other_items(text).into_iter().collect();
            (!others.is_empty()).then(|| format!("{file}: {others:?}"))
        })
        .collect();
    assert!(found.is_empty(), "more than docs, `mod` and `use`: {found:#?}");
}

#[test]
fn lower_layers_have_no_clock_no_runtime_no_log_and_no_files() {
    let mut mentions = mentions(&source());
    mentions.retain(|mention| layer(&mention.from).is_some_and(|layer| layer <= PURE));
    let found = impure(&mentions);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_is_longer_than_400_lines_without_its_tests() {
    let files = source();
    let reachable = reachable(&files);
    for (file, text) in files.iter().filter(|(file, _)| reachable.contains(*file)) {
        let lines = text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{file}: {lines} lines");
    }
}

/// Made-up sources.
fn files<const COUNT: usize>(files: [(&str, &str); COUNT]) -> Files {
    files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

#[test]
fn a_circle_is_found_in_every_form_of_import() {
    for import in [
        "use super::b::B;",
        "use crate::net::{\n    b::{self as other, B},\n};",
        "pub use self::super::b::B;",
        "use crate::net;\nfn f() { net::b::g(); }",
        "use super::*;\nfn f() { b::g(); }",
        "fn f() { assert!(matches!(x, crate::net::b::B)); }",
        "fn f() -> Option<super::b::B> { None }",
        "mod inner {\n    use super::super::b::B;\n}",
        "impl Trait for crate::net::b::B {}",
    ] {
        let found = circles(&mentions(&files([
            ("lib.rs", "pub mod net;"),
            ("net/mod.rs", "mod a;\nmod b;"),
            ("net/a.rs", import),
            ("net/b.rs", "/// The other.\nuse super::a::{self, A};\n"),
        ])));
        let back = "net/b.rs → net/a.rs: super::a (line 2), super::a::A (line 2)";
        assert!(found.len() == 1 && found[0].contains(back), "{import}: {found:#?}");
        assert!(found[0].contains("net/a.rs → net/b.rs: "), "{import}: {found:#?}");
    }
}

#[test]
fn a_circle_through_a_mod_file_is_found() {
    let found = circles(&mentions(&files([
        ("lib.rs", "pub mod net;"),
        ("net/mod.rs", "mod a;\npub use a::A;\npub struct Shared;"),
        ("net/a.rs", "use super::Shared;\npub struct A;"),
    ])));
    let circle =
        "net/a.rs → net/mod.rs: super::Shared (line 1)\nnet/mod.rs → net/a.rs: a::A (line 2)";
    assert_eq!(found, [circle]);
}

#[test]
fn no_circle_is_seen_where_there_is_none() {
    let found = circles(&mentions(&files([
        ("lib.rs", "pub mod net;\npub mod sys;"),
        ("net/mod.rs", "mod a;\nmod b;\npub use b::B;\n#[cfg(test)]\nmod tests;"),
        (
            "net/a.rs",
            "// use super::b::B;\n/* crate::net::b */\npub const TEXT: &str = \"crate::net::b::B\";\n\
             pub(in crate::net) fn f() { std::mem::drop(b::c); }\nuse rustls::b::B;\n\
             #[cfg(test)]\nuse super::b::{B, C};\n#[cfg(test)]\nmod tests {\n    use crate::net::b::B;\n}\n",
        ),
        ("net/b.rs", "use super::a::f;\nuse crate::sys::log;\n"),
        ("net/tests.rs", "use super::a::f;\n"),
        ("sys/mod.rs", "pub fn log() {}"),
    ])));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn imports_from_higher_layers_are_found() {
    let mentions = mentions(&files([
        ("lib.rs", "mod crypto;\nmod net;\nmod server;\nmod client;"),
        ("crypto/mod.rs", "mod ring;"),
        (
            "crypto/ring.rs",
            "use crate::server::hub;\n// crate::net\nuse tokio::{fs, sync};\nuse std::{fs, io};",
        ),
        ("net/mod.rs", "use crate::crypto::ring::Ring;\nfn f() { Instant::now(); }"),
        ("client/mod.rs", "use crate::server;"),
        ("server/mod.rs", "mod hub;\nmod rooms;\nmod run;\nmod error;"),
        ("server/hub.rs", "use super::error::E;"),
        ("server/rooms.rs", "use crate::server::{error::E, run::start};"),
        ("server/run.rs", "use crate::server::rooms;"),
        ("server/error.rs", "fn f() { super::rooms::g(); }"),
    ]));
    assert_eq!(
        upward(&mentions),
        ["client/mod.rs:1: crate::server", "crypto/ring.rs:1: crate::server::hub"]
    );
    let in_server =
        ["server/error.rs:1: super::rooms::g", "server/rooms.rs:1: crate::server::run::start"];
    assert_eq!(upward_in_server(&mentions), in_server);
    let found = [
        "crypto/ring.rs:3: tokio::fs",
        "crypto/ring.rs:3: tokio::sync",
        "crypto/ring.rs:4: std::fs",
    ];
    let impure = impure(&mentions);
    assert_eq!(
        (&impure[..3], &impure[3][..]),
        (&found.map(String::from)[..], "net/mod.rs:2: Instant::now")
    );
}

#[test]
fn items_in_a_mod_file_are_found() {
    let clean =
        "//! Docs.\nmod a;\npub(crate) mod b;\npub use a::{A, B};\n#[cfg(test)]\nmod tests;\n";
    assert!(other_items(clean).is_empty(), "{:?}", other_items(clean));
    assert_eq!(other_items("mod a { }\npub fn f() {}\nstruct S;\n"), ["mod", "fn", "struct"]);
}
