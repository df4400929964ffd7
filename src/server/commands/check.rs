//! `chat-server check`: validates the configuration and prints it, and refuses a history that a newer
//! program wrote.

use super::args::ConfigArgs;
use super::output::{print, print_error};
use crate::config::{Config, Store};
use crate::server::context::ActiveConfig;
use crate::server::error::ServerError;
use crate::server::open_cluster;
use crate::server::tls_warnings;
use crate::store::refuse_newer_store;
use crate::sys::clock::wall_clock;

/// Prints the configuration in force as TOML; standard error says where the files are, and what to
/// look at. Binds nothing, and creates or changes no file.
pub fn run(config: &ConfigArgs) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    let active = ActiveConfig::new(config)?;
    let config = &active.config;
    print_error(&format!("access file {}", config.auth.access_file.display()));
    if config.history.store == Store::Disk {
        print_error(&format!("history {}", config.history.path.display()));
    }
    if let Some(cluster) = &config.cluster {
        print_error(&format!("history at {}", cluster.servers.join(", ")));
    }
    match &config.admin.socket {
        Some(socket) => print_error(&format!("admin socket {}", socket.display())),
        None => print_error("no admin socket"),
    }
    for warning in tls_warnings::warnings(config, wall_clock()) {
        print_error(&warning);
    }
    print(toml::to_string_pretty(&config.raw).unwrap_or_default().as_bytes())?;
    // The last, so that the configuration is printed all the same.
    if config.history.store == Store::Disk {
        refuse_newer_store(&config.history.path)?;
    }
    if let Some(cluster) = &config.cluster {
        open_cluster::plan(config, cluster)?;
    }
    Ok(())
}
