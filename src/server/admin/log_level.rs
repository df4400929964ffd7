//! `ctl log-level`: another level of the server log, for a time.
//!
//! Afterwards the level of the configuration is in force again. A reload meanwhile changes the level that
//! is returned to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::LogLevel;
use crate::server::audit::{self, Operator};
use crate::server::context::Context;

/// How long a level stays in force if the operator names no time.
const DEFAULT_TIME: Duration = Duration::from_secs(600);
/// The longest time, so that no forgotten level fills a disk.
pub const MAX_TIME: Duration = Duration::from_secs(86_400);
/// The word for the level of the configuration.
pub const RESET: &str = "reset";

/// Reports the level, after changing it if `level` names one.
pub fn report_or_change(
    context: &Context,
    level: Option<&str>,
    seconds: Option<u64>,
    by: Operator,
) -> Result<Value, String> {
    match level {
        None => {}
        Some(RESET) => change(context, None, by),
        Some(name) => {
            let level = LogLevel::parse(name).ok_or_else(|| {
                format!("{name:?} is no level; use error, warn, info, debug, trace or {RESET}")
            })?;
            let time = seconds.map_or(DEFAULT_TIME, Duration::from_secs);
            if time.is_zero() || time > MAX_TIME {
                return Err("the time must be between 1 s and 24 h".into());
            }
            change(context, Some((level, time)), by);
        }
    }
    Ok(describe(context))
}

/// The level in force, and while it is not that of the configuration, that one and for how long.
pub fn describe(context: &Context) -> Value {
    let state = context.log.level();
    let mut answer = json!({"log_level": state.in_force().as_str()});
    if let Some((_, until)) = state.chosen {
        answer["log_level_configured"] = state.configured.as_str().into();
        let left = until.saturating_duration_since(Instant::now());
        answer["log_level_seconds_left"] = (left.as_millis().div_ceil(1000) as u64).into();
    }
    answer
}

/// Returns to the level of the configuration if the time of the other one is over. To be called every
/// second or so.
pub fn end_if_due(context: &Context) {
    let state = context.log.level();
    if state.chosen.is_some_and(|(_, until)| until <= Instant::now()) {
        // The line is logged if either of the two levels allows it.
        let log = || {
            tracing::info!(
                event = "log_level_ended",
                log_level = state.configured.as_str(),
                "the level of the server log is that of the configuration again"
            );
        };
        let chosen_allows = state.in_force() >= LogLevel::Info;
        if chosen_allows {
            log();
        }
        context.log.choose_level(None);
        if !chosen_allows {
            log();
        }
    }
}

fn change(context: &Context, chosen: Option<(LogLevel, Duration)>, by: Operator) {
    let level = chosen.map_or(RESET, |(level, _)| level.as_str());
    audit::log_level_act(level, chosen.map(|(_, time)| time.as_secs()), by);
    context.log.choose_level(chosen.map(|(level, time)| (level, Instant::now() + time)));
}
