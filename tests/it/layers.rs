//! The floors of the architecture: a file imports only from strictly lower floors, or from its
//! own folder.

use std::path::{Path, PathBuf};

const FLOORS: [(&str, u32); 12] = [
    ("protocol", 0),
    ("policy", 1),
    ("crypto", 1),
    ("conversation", 2),
    ("config", 4),
    ("store", 4),
    ("credentials", 3),
    ("net", 5),
    ("sys", 5),
    ("server", 6),
    ("client", 6),
    ("bin", 7),
];

fn floor(name: &str) -> Option<u32> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn source() -> (PathBuf, Vec<PathBuf>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    all.retain(|path| {
        let path = path.to_string_lossy();
        !path.ends_with("tests.rs") && !path.contains("/tests/")
    });
    assert!(all.len() > 40, "the tree was read");
    (root, all)
}

/// What a file may not name, as `file: name`.
fn trespasses(relative: &Path, text: &str) -> Vec<String> {
    let Some(own) = relative.iter().next().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let Some(own_floor) = floor(own) else { return Vec::new() };
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for marker in ["crate::", "secure_chat::"] {
            for (at, _) in line.match_indices(marker) {
                let rest = &line[at + marker.len()..];
                let named: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                match floor(&named) {
                    Some(_) if named == own => {}
                    Some(other) if other < own_floor => {}
                    Some(_) => found.push(format!("{}: {named}", relative.display())),
                    None => {}
                }
            }
        }
    }
    found
}

#[test]
fn nobody_looks_upstairs() {
    let (root, all) = source();
    let found: Vec<String> = all
        .iter()
        .flat_map(|path| {
            trespasses(path.strip_prefix(&root).unwrap(), &std::fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_look_upstairs_would_be_seen() {
    let found = trespasses(
        Path::new("crypto/key_ring.rs"),
        "use crate::server::rooms::hub;\n// crate::net\n",
    );
    assert_eq!(found, ["crypto/key_ring.rs: server"]);
    assert_eq!(
        trespasses(Path::new("client/a.rs"), "use crate::server::x;"),
        ["client/a.rs: server"]
    );
    assert!(trespasses(Path::new("conversation/a.rs"), "use crate::policy::rate;").is_empty());
}

#[test]
fn no_file_is_the_file_that_handles_everything() {
    let (_, all) = source();
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
        assert!(lines <= 400, "{}: {lines} lines", path.display());
    }
}

#[test]
fn lower_floors_have_no_clock_no_tokio_and_no_log() {
    let (root, all) = source();
    for path in all {
        let own =
            path.strip_prefix(&root).unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
        if floor(&own).is_none_or(|floor| floor > 2) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["tokio::", "tracing::", "Instant::now()", "SystemTime::now()", "std::fs"] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
}
