//! The address in an invitation: the one that the operator names, else that of the ngrok tunnel, else a
//! name in the certificate of the server.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::ctl;
use crate::config::{AuthMode, Config, Sources};
use crate::net::tls_server;
use crate::protocol::invitation::PublicAddress;
use crate::server::admin::request::AdminRequest;
use crate::server::error::ServerError;
use crate::sys::user::user_id;

/// Where the unit of the tunnel publishes its address (docs/ngrok.md).
const UNIT_TUNNEL_FILE: &str = "/run/chat-server-ngrok/address";
/// The name of the file that the tunnel writes without its unit.
const TUNNEL_FILE: &str = "secure-chat-ngrok.address";
/// The part of such a file that is read.
const MAX_TUNNEL_FILE_BYTES: u64 = 4096;

/// Where the running server listens; if none answers, where the configuration says.
pub struct Listening {
    addresses: Vec<SocketAddr>,
    /// Whether everyone who connects may register.
    pub is_open: bool,
}

impl Listening {
    /// Asks the running server.
    pub fn of(config: &Config) -> Self {
        let answer = ctl::ask(config.admin.socket.as_deref(), &AdminRequest::Listening).ok();
        let parse = |text: &serde_json::Value| text.as_str()?.parse().ok();
        let addresses = answer
            .as_ref()
            .and_then(|answer| answer["addresses"].as_array()?.iter().map(parse).collect());
        let mode = answer.as_ref().and_then(|answer| answer["mode"].as_str());
        Listening {
            addresses: addresses.unwrap_or_else(|| config.listen.addresses.clone()),
            is_open: mode.map_or(config.auth.mode == AuthMode::Open, |mode| mode == "open"),
        }
    }

    /// The port that other computers can connect to; `None` if there is none or it is not known.
    fn public_port(&self) -> Option<u16> {
        let mut public = self.addresses.iter().filter(|address| !address.ip().is_loopback());
        public.next().map(SocketAddr::port).filter(|port| *port > 0)
    }
}

/// Where an address comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Given,
    /// The file of the tunnel.
    Tunnel(PathBuf),
    /// The certificate in this file.
    Certificate(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Given => f.write_str("--url"),
            Origin::Tunnel(file) => write!(f, "the tunnel's address in {}", file.display()),
            Origin::Certificate(file) => write!(f, "a name in the certificate {}", file.display()),
        }
    }
}

/// Finds the address; the error asks for `--url`.
pub fn find(
    given: Option<&str>,
    config: &Config,
    sources: &Sources,
    listening: &Listening,
) -> Result<(PublicAddress, Origin), ServerError> {
    let found = match given {
        Some(text) => {
            let address = PublicAddress::parse(text).map_err(|reason| {
                usage(format!(
                    "--url {text:?} is not the address of a server: {reason}; write wss://chat.example"
                ))
            })?;
            (address, Origin::Given)
        }
        None => match &config.listen.tls {
            // The tunnel speaks plain HTTP with the server.
            None => of_tunnel(&tunnel_files(sources))?,
            Some(tls) => listening.public_port().and_then(|port| {
                let name = first_public(tls_server::certificate_names(tls))?;
                let origin = Origin::Certificate(tls.certificate.clone());
                Some((PublicAddress::with_tls(&name, port), origin))
            }),
        }
        .ok_or_else(|| usage(unknown(listening)))?,
    };
    let (address, _) = &found;
    if !address.tls && !address.is_loopback() && !config.listen.allow_plaintext {
        return Err(usage(format!(
            "{address}: the server sends no keys over an unencrypted connection; name an address with wss://"
        )));
    }
    Ok(found)
}

fn unknown(listening: &Listening) -> String {
    let listening: Vec<String> = listening.addresses.iter().map(ToString::to_string).collect();
    format!(
        "the address at which others reach the server is not known (it listens on {}, there is no tunnel, and \
         no certificate names it): name it with --url, as in --url wss://chat.example",
        listening.join(" and ")
    )
}

fn usage(text: String) -> ServerError {
    ServerError::Usage(text)
}

/// The first name or address that other computers can use.
fn first_public(names: Vec<String>) -> Option<String> {
    names.into_iter().find(|name| {
        let name = name.to_ascii_lowercase();
        match name.parse::<IpAddr>() {
            Ok(address) => !address.is_loopback() && !address.is_unspecified(),
            Err(_) => name != "localhost" && !name.ends_with(".localhost"),
        }
    })
}

/// The files in which the tunnel of this server may have published its address.
fn tunnel_files(sources: &Sources) -> Vec<PathBuf> {
    if sources.unit_folders.state.is_some() {
        return vec![UNIT_TUNNEL_FILE.into()];
    }
    let folder = sources.environment.get("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    vec![Path::new(folder.map_or("/tmp", String::as_str)).join(TUNNEL_FILE)]
}

fn of_tunnel(files: &[PathBuf]) -> Result<Option<(PublicAddress, Origin)>, ServerError> {
    for file in files {
        let text = match read_tunnel_file(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unusable(file, &error.to_string())),
        };
        let address = PublicAddress::parse(text.lines().next().unwrap_or_default())
            .map_err(|reason| unusable(file, reason))?;
        return Ok(Some((address, Origin::Tunnel(file.clone()))));
    }
    Ok(None)
}

fn unusable(file: &Path, reason: &str) -> ServerError {
    usage(format!(
        "{}: the tunnel's address can't be used: {reason}; name the server's address with --url",
        file.display()
    ))
}

/// Reads a file that root or this user wrote: the access token goes to whom it names.
fn read_tunnel_file(file: &Path) -> io::Result<String> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let opened =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(file)?;
    let found = opened.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // The unit's folder belongs to the tunnel's own user.
    let is_of_unit = file == Path::new(UNIT_TUNNEL_FILE);
    if !is_of_unit && found.uid() != 0 && Some(found.uid()) != user_id() {
        return Err(io::Error::other("another user wrote it"));
    }
    let mut text = String::new();
    opened.take(MAX_TUNNEL_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_that_others_can_use_is_taken() {
        let first =
            |names: &[&str]| first_public(names.iter().map(|name| (*name).into()).collect());
        assert_eq!(first(&["localhost", "a.localhost", "h", "b"]).as_deref(), Some("h"));
        assert_eq!(first(&["127.0.0.1", "::1", "192.0.2.7"]).as_deref(), Some("192.0.2.7"));
        assert_eq!(first(&["localhost", "127.0.0.1"]), None);
    }

    #[test]
    fn the_port_is_one_that_others_can_connect_to() {
        let port = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Listening { addresses, is_open: false }.public_port()
        };
        assert_eq!(port(&["127.0.0.1:1", "0.0.0.0:8765"]), Some(8765));
        assert_eq!(port(&["127.0.0.1:8765", "[::1]:8765"]), None);
        assert_eq!(port(&["0.0.0.0:0"]), None);
    }

    #[test]
    fn the_file_of_a_tunnel_is_read_unless_it_is_a_trap() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(TUNNEL_FILE);
        let find = || of_tunnel(std::slice::from_ref(&file));
        assert_eq!(find().unwrap(), None);
        std::fs::write(&file, "wss://abcd.ngrok.app\n").unwrap();
        let (address, origin) = find().unwrap().unwrap();
        assert_eq!(address.to_string(), "wss://abcd.ngrok.app");
        assert_eq!(origin, Origin::Tunnel(file.clone()));
        std::fs::write(&file, "").unwrap();
        assert!(find().unwrap_err().to_string().contains("--url"));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert!(find().unwrap_err().to_string().contains("--url"));
    }
}
