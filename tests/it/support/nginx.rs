//! A real nginx in front of a server, with the lines that docs/proxy.md recommends.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::certificates::Pair;
use super::{POLL_INTERVAL, TIMEOUT};

/// A running nginx, killed on drop.
pub struct Nginx {
    child: Child,
    ports: Vec<u16>,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts nginx with one TLS listener per certificate, all in front of one server.
    pub fn in_front_of(address: &str, pairs: &[&Pair]) -> Nginx {
        // Another process may take a port after this one has released it.
        for _ in 0..5 {
            if let Some(nginx) = Nginx::attempt(address, pairs) {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    fn attempt(address: &str, pairs: &[&Pair]) -> Option<Nginx> {
        let folder = tempfile::tempdir().unwrap();
        let held: Vec<std::net::TcpListener> =
            pairs.iter().map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
        let sites: String =
            pairs.iter().zip(&ports).map(|(pair, port)| site(address, pair, *port)).collect();
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, configuration(folder.path(), &sites)).unwrap();
        drop(held);
        let mut child = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx: run scripts/test, which installs it");
        let deadline = Instant::now() + TIMEOUT;
        let open = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok();
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            if ports.iter().all(open) {
                return Some(Nginx { child, ports, _folder: folder });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// `localhost:4321`, the listener of the nth certificate.
    pub fn address(&self, number: usize) -> String {
        format!("localhost:{}", self.ports[number])
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration for one process that writes only into its folder.
fn configuration(folder: &Path, sites: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{}{sites}}}
",
        documented("map")
    )
}

fn site(address: &str, pair: &Pair, port: u16) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    // Security level 0, so that nginx serves the weakest certificates too. The client must refuse them.
    format!(
        "  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_ciphers DEFAULT:@SECLEVEL=0;
{}  }}
",
        documented("location").replace("127.0.0.1:8765", address)
    )
}

/// The nginx block in docs/proxy.md that begins with this word.
fn documented(word: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/proxy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut blocks = page.split("```nginx\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.starts_with(word)).expect(word).to_owned()
}
