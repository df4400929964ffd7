//! nginx in front of chat-server: it ends TLS, with the lines of docs/proxy.md and as many workers as there are
//! processors.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::certificate;
use crate::servers::free_port;

/// How long nginx may take to start its workers.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running nginx.
pub struct Nginx {
    child: Child,
    workers: Vec<u32>,
    pub port: u16,
}

impl Nginx {
    /// Starts nginx with the certificate in a folder, in front of a port; `None` if it is not installed.
    pub fn start(folder: &Path, upstream: u16) -> Option<Nginx> {
        let port = free_port();
        let config = folder.join("nginx.conf");
        std::fs::write(&config, configuration(folder, port, upstream)).ok()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin"))
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let mut nginx = Nginx { child, workers: Vec::new(), port };
        let wanted = std::thread::available_parallelism().map_or(1, usize::from);
        let deadline = Instant::now() + START_TIMEOUT;
        while nginx.workers.len() < wanted {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
            nginx.workers = children(nginx.child.id());
        }
        Some(nginx)
    }

    /// The master and its workers.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        [self.child.id()].into_iter().chain(self.workers.iter().copied())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A master that is killed would leave its workers.
        if let Ok(master) = i32::try_from(self.child.id()) {
            let master = nix::unistd::Pid::from_raw(master);
            let _ = nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_child = |process: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The state and the parent follow the name in parentheses (proc(5)).
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_child)
        .collect()
}

fn configuration(folder: &Path, port: u16, upstream: u16) -> String {
    let [certificate, key] = certificate::files(folder);
    let (certificate, key, folder) = (certificate.display(), key.display(), folder.display());
    // The server pings once an hour in this benchmark, so nginx waits for longer than that.
    format!(
        "daemon off;
user root;
worker_processes auto;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 32768; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
      proxy_read_timeout 2h;
    }}
  }}
}}
"
    )
}
