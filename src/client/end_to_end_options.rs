//! From the command line to what a run wants of end-to-end rooms.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::args::Common;
use super::end_to_end::{self, EndToEndOptions, Problem};
use super::exit_code::{ExitCode, Refusal};
use super::room_names::user;
use crate::net::dial::{Target, read_url_file};
use crate::policy::pins::PinFile;

fn refusal(problem: Problem) -> Refusal {
    (problem.exit(), problem.text)
}

/// What a run wants of end-to-end rooms.
pub fn end_to_end_options(common: &Common, server: &Target) -> Result<EndToEndOptions, Refusal> {
    let url = match server {
        Target::Url(url) => Some(url.clone()),
        Target::File(file) => read_url_file(file).ok().map(|address| address.url),
    };
    let host = url.map_or_else(|| "server".to_owned(), |url| url.authority());
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let given = common.e2e_home.clone().or_else(|| variable("CHAT_E2E_HOME"));
    let folder = end_to_end::folder(given, &user(common), &host, variable).map_err(refusal)?;
    let pins = match &common.pins {
        None => PinFile::default(),
        Some(file) => {
            let wrong =
                |error: String| (ExitCode::NoFile, format!("--pins {}: {error}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
            PinFile::parse(&text).map_err(|error| wrong(error.to_string()))?
        }
    };
    Ok(EndToEndOptions {
        folder,
        key: end_to_end::credential(variable("CREDENTIALS_DIRECTORY")).map_err(refusal)?,
        trust: common.trust.into(),
        pins,
        host,
        name: common.user.clone(),
        direct: BTreeMap::new(),
    })
}
