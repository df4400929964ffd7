//! `chat-server check`: validates the configuration and prints it.

use super::args::ConfigArgs;
use super::output::print;
use crate::config::Config;
use crate::server::context::ActiveConfig;
use crate::server::error::ServerError;

/// Prints the configuration in force as TOML. Binds nothing, and creates or changes no file.
pub fn run(config: &ConfigArgs) -> Result<(), ServerError> {
    let config = Config::load(&config.sources())?;
    let toml = toml::to_string_pretty(&config.raw).unwrap_or_default();
    ActiveConfig::new(config)?;
    print(toml.as_bytes())
}
