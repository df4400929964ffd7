//! Reloads the configuration, all or nothing: a new configuration is read, validated and prepared
//! first, and then replaces the one in force as a whole.

use std::sync::Arc;

use super::status;
use crate::config::{Config, Reloaded, Sources};
use crate::net::tls_server;
use crate::protocol::mask;
use crate::server::access_watch;
use crate::server::audit::Operator;
use crate::server::context::{ActiveConfig, Context};
use crate::server::error::ServerError;
use crate::server::listeners;
use crate::server::reload_state::AppliedKeys;
use crate::server::rooms::command::Command;
use crate::server::tls_warnings;
use crate::sys::clock::wall_clock;
use crate::sys::logging::ServerLog;
use crate::sys::systemd;

/// The inputs of a reload.
pub struct Reload {
    /// The sources of the configuration, the same as at the start.
    pub sources: Sources,
    /// The configuration of the start. Some of its keys stay in force until the next one.
    pub started: Config,
    /// The server log, whose level may change.
    pub server_log: ServerLog,
}

impl Reload {
    /// Rereads the configuration and the access file. Logs the outcome and returns it: the keys, or
    /// the error text for an operator.
    pub async fn run(&self, context: &Context, by: Operator) -> Result<AppliedKeys, String> {
        systemd::reloading();
        let outcome = self.replace_config(context).map_err(|error| error.to_string());
        let enforced = outcome.is_err() || access_watch::reread(context, by).await.is_some();
        match &outcome {
            Ok(keys) => log_keys(keys),
            Err(error) => {
                let reason = mask::secrets(&error.replace('\n', " | ")).into_owned();
                tracing::error!(
                    event = "reload_failed",
                    reason,
                    "the old configuration stays in force"
                );
            }
        }
        if outcome.is_ok() {
            context.counters.reloaded_at.set(wall_clock());
        }
        context.reload_state.set(outcome.clone());
        systemd::status(&status::line(context).await);
        systemd::ready();
        match enforced {
            true => outcome,
            false => Err(format!(
                "the new configuration is in force, but {}",
                access_watch::NOT_ENFORCED
            )),
        }
    }

    fn replace_config(&self, context: &Context) -> Result<AppliedKeys, ServerError> {
        let Reloaded { config, next, changed, restart_needed } =
            Config::reload(&self.sources, &self.started)?;
        // TLS files that only the next start uses must be right, too.
        next.listen.tls.as_ref().map(tls_server::acceptor).transpose()?;
        listeners::refuse_open_to_other_machines(&config, &context.addresses)?;
        let new = ActiveConfig::new(config)?;
        tls_warnings::log(&new.config, wall_clock());
        self.server_log.set_level(new.config.log.level);
        let _ = context.hub.send(Command::Reconfigure(new.hub_config(context.durable)));
        context.log_writer.set_retention(new.retention());
        context.active_config.store(Arc::new(new));
        Ok(AppliedKeys { changed, restart_needed })
    }
}

fn log_keys(AppliedKeys { changed, restart_needed }: &AppliedKeys) {
    let keys = changed.join(", ");
    tracing::info!(event = "reloaded", keys, "the new configuration is in force");
    if !restart_needed.is_empty() {
        let keys = restart_needed.join(", ");
        tracing::warn!(event = "restart_needed", keys, "these keys take effect at the next start");
    }
}
