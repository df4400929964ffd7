//! Reloads the configuration, all or nothing: a new configuration is read, validated and prepared
//! first, and then replaces the one in force as a whole.

use std::sync::Arc;

use crate::config::{Config, Sources};
use crate::server::access_watch;
use crate::server::audit::Operator;
use crate::server::context::{ActiveConfig, Context};
use crate::server::error::ServerError;
use crate::server::rooms::command::Command;
use crate::server::tls_warnings;
use crate::sys::clock::wall_clock;
use crate::sys::logging::ServerLog;
use crate::sys::systemd;

/// The inputs of a reload.
pub struct Reload {
    /// The sources of the configuration, the same as at the start.
    pub sources: Sources,
    /// The server log, whose level may change.
    pub server_log: ServerLog,
}

impl Reload {
    /// Rereads the configuration and the access file. Logs the outcome and returns it, as the text
    /// for an operator.
    pub async fn run(&self, context: &Context, by: Operator) -> Result<(), String> {
        systemd::reloading();
        let outcome = self.replace_config(context);
        let enforced = outcome.is_err() || access_watch::reread(context, by).await.is_some();
        match &outcome {
            Ok(()) => tracing::info!(event = "reloaded", "the new configuration is in force"),
            Err(error) => {
                let reason = error.to_string().replace('\n', " | ");
                tracing::error!(
                    event = "reload_failed",
                    reason,
                    "the old configuration stays in force"
                );
            }
        }
        systemd::ready();
        match enforced {
            true => outcome.map_err(|error| error.to_string()),
            false => Err(format!(
                "the new configuration is in force, but {}",
                access_watch::NOT_ENFORCED
            )),
        }
    }

    fn replace_config(&self, context: &Context) -> Result<(), ServerError> {
        let new = ActiveConfig::new(Config::load(&self.sources)?)?;
        let unapplied = context.active_config.load().config.needs_restart(&new.config);
        if !unapplied.is_empty() {
            let keys = unapplied.join(", ");
            tracing::warn!(
                event = "restart_needed",
                keys,
                "these keys take effect at the next start"
            );
        }
        tls_warnings::log(&new.config, wall_clock());
        self.server_log.set_level(new.config.log.level);
        let _ = context.hub.send(Command::Reconfigure(new.hub_config(context.durable)));
        context.log_writer.set_retention(new.retention());
        context.active_config.store(Arc::new(new));
        Ok(())
    }
}
