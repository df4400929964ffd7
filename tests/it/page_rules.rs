//! The pure modules of the web page, in node: Fernet tokens, the outbox, and the order of a room's messages.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_rules_of_the_page_hold() {
    let has_node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if !has_node.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: this machine has no node");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // node takes a file for a module only if a package says so.
    std::fs::write(folder.path().join("package.json"), r#"{"type":"module"}"#).unwrap();
    for file in std::fs::read_dir(root.join("src/server/page/files")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "js") {
            std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    let rules = folder.path().join("page_rules.js");
    std::fs::copy(root.join("tests/it/page_rules.mjs"), &rules).unwrap();
    let output = Command::new("node").arg(&rules).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok", "{errors}");
}
