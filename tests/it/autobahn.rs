//! The Autobahn cases (by kosoku) against both programs: the server's upgrade, limits and reading, and the client's
//! dialling, limits and reading.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::python::interpreter;
use crate::support::{eventually, load_lock, programs};

/// The number of cases without permessage-deflate (12 and 13), which neither program offers.
const CASES: usize = 301;

/// A process, killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn echo(arguments: &[&str]) -> Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_chat-server")).parent().unwrap();
    let program = folder.join("examples/echo");
    assert!(program.exists(), "examples/echo: run cargo test with --features faults");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn kosoku(mode: &str, reports: &Path) -> Command {
    let mut command = Command::new(interpreter().with_file_name("kosoku"));
    command.args(["-m", mode, "-o"]).arg(reports);
    command
}

/// Checks that every case in the report of the one peer ended well.
fn assert_all_well(reports: &Path) {
    let mut report = Value::Null;
    eventually("the report is written to its end", || {
        let text = std::fs::read_to_string(reports.join("index.json")).unwrap_or_default();
        report = serde_json::from_str(&text).unwrap_or_default();
        report.is_object()
    });
    let peers = report.as_object().unwrap();
    let cases = peers.values().next().unwrap().as_object().unwrap();
    let fine = ["OK", "INFORMATIONAL", "NON-STRICT"];
    let bad: Vec<_> = cases
        .iter()
        .filter(|(_, case)| {
            let one_of_them = |field: &str| fine.iter().any(|fine| case[field] == *fine);
            !one_of_them("behavior") || !one_of_them("behaviorClose")
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!((peers.len(), cases.len()), (1, CASES));
}

#[test]
fn p22_every_autobahn_case_ends_well_for_the_server() {
    if !programs::have_faults("p22_every_autobahn_case_ends_well_for_the_server") {
        return;
    }
    let _lock = load_lock();
    let mut server = Running(echo(&["serve", "16777216"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let reports = tempfile::tempdir().unwrap();
    let mut suite = kosoku("fuzzingclient", reports.path());
    suite.args(["-p", "4", "-x", "12.*", "-x", "13.*"]).arg(address.trim());
    let output = suite.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_all_well(reports.path());
}

#[test]
fn p22_every_autobahn_case_ends_well_for_the_client() {
    if !programs::have_faults("p22_every_autobahn_case_ends_well_for_the_client") {
        return;
    }
    let _lock = load_lock();
    let reports = tempfile::tempdir().unwrap();
    let mut suite = kosoku("fuzzingserver", reports.path());
    suite.arg("127.0.0.1:0").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut suite = Running(suite.spawn().unwrap());
    let mut line = String::new();
    // Kept open, because the suite goes on printing.
    let mut stderr = BufReader::new(suite.0.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap();
    let client = echo(&["dial", address, &CASES.to_string()]).output().unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    assert_all_well(reports.path());
}
