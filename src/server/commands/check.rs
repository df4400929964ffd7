//! `chat-server check`: validates the configuration and prints it.

use super::args::ConfigArgs;
use super::output::{print, print_error};
use crate::config::{Config, Store};
use crate::server::context::ActiveConfig;
use crate::server::error::ServerError;

/// Prints the configuration in force as TOML. Binds nothing, and creates or changes no file.
pub fn run(config: &ConfigArgs) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    let toml = toml::to_string_pretty(&config.raw).unwrap_or_default();
    let socket = config.admin.socket.as_ref().map(|path| path.display().to_string());
    print_error(&format!("access file {}", config.auth.access_file.display()));
    if config.history.store == Store::Disk {
        print_error(&format!("history {}", config.history.path.display()));
    }
    print_error(&format!("admin socket {}", socket.as_deref().unwrap_or("none")));
    ActiveConfig::new(config)?;
    print(toml.as_bytes())
}
