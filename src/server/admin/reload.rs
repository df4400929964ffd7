//! Reloading: all or nothing. Everything is read and made ready first; what is in force is only
//! replaced, whole, by something that works.

use std::sync::Arc;

use crate::config::{Config, Sources};
use crate::server::authenticator;
use crate::server::context::{ActiveConfig, Context};
use crate::server::error::ServerError;
use crate::server::rooms::command::Command;
use crate::sys::logging::ServerLog;
use crate::sys::systemd;

/// What a reload reads and what it tells.
pub struct Reload {
    /// Where the configuration comes from, the same as at the start.
    pub sources: Sources,
    /// The log, whose level may change.
    pub logs: ServerLog,
}

impl Reload {
    /// Reads everything again; says in the log, and to whoever asked, what came of it.
    pub async fn run(&self, context: &Context) -> Result<(), String> {
        systemd::reloading();
        let outcome = self.replace(context);
        let upheld = outcome.is_err() || authenticator::renew(context).await.is_some();
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
        match upheld {
            true => outcome.map_err(|error| error.to_string()),
            false => {
                Err(format!("the new configuration is in force, but {}", authenticator::NOT_UPHELD))
            }
        }
    }

    fn replace(&self, context: &Context) -> Result<(), ServerError> {
        let new = ActiveConfig::new(Config::load(&self.sources)?)?;
        let waits = context.live.load().config.needs_restart(&new.config);
        if !waits.is_empty() {
            let keys = waits.join(", ");
            tracing::warn!(
                event = "restart_needed",
                keys,
                "these keys take effect at the next start"
            );
        }
        self.logs.set_level(new.config.log.level);
        let _ = context.hub.send(Command::Reconfigure(new.policy(context.durable)));
        context.log_writer.set_retention(new.keep());
        context.live.store(Arc::new(new));
        Ok(())
    }
}
