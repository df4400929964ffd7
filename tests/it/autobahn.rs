//! The Autobahn cases (by kosoku) against the product's own front door, limits and reading loop.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::heavy;
use crate::support::python::interpreter;

#[test]
fn p22_every_autobahn_case_ends_well() {
    let _one = heavy();
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_chat-server")).parent().unwrap().to_owned();
    let mut echo = Command::new(programs.join("examples/echo"))
        .arg("16777216")
        .stdout(Stdio::piped())
        .spawn()
        .expect("examples/echo: run cargo test with --features faults");
    let mut address = String::new();
    BufReader::new(echo.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let reports = tempfile::tempdir().unwrap();
    let output = Command::new(interpreter().with_file_name("kosoku"))
        // permessage-deflate (12, 13) is declined.
        .args(["-m", "fuzzingclient", "-p", "4", "-x", "12.*", "-x", "13.*", "-o"])
        .arg(reports.path())
        .arg(address.trim())
        .output()
        .unwrap();
    let _ = echo.kill();
    let _ = echo.wait();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let cases: Vec<&str> = said.lines().filter(|line| line.contains("behavior=")).collect();
    let bad: Vec<&&str> = cases
        .iter()
        .filter(|line| {
            let fine = ["behavior=OK,", "behavior=INFORMATIONAL,", "behavior=NON-STRICT,"];
            !fine.iter().any(|fine| line.contains(fine)) || line.contains("behaviorClose=UNCLEAN")
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(said.contains("301 cases"), "{}", said.lines().last().unwrap_or_default());
}
