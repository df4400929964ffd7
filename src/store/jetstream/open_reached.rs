//! Opens the store of an engine that was reached and checked.

use super::cluster::Timings;
use super::open::{JetStreamOptions, OpenJetStreamError, open_jetstream};
use super::reach::{ClusterError, ClusterPlan, ReachedEngine};
use crate::store::opened::OpenedStore;
use crate::store::retention::Retention;

/// Opens the store.
pub fn open_reached(
    reached: ReachedEngine,
    plan: &ClusterPlan,
    retention: Retention,
) -> Result<OpenedStore, ClusterError> {
    let options = JetStreamOptions {
        prefix: plan.prefix.clone(),
        streams: plan.streams,
        secret: plan.secret.clone(),
        previous_secret: None,
        retention,
        durable: reached.durable,
        timings: Timings::default(),
    };
    open_jetstream(reached.engine, &options).map_err(|error| match error {
        OpenJetStreamError::OtherSecret => ClusterError::Refused {
            reason: error.to_string(),
            way_out: "set cluster.key to a copy of the file that the other servers have",
        },
        OpenJetStreamError::Engine { .. } => ClusterError::Unreachable {
            servers: plan.address.servers.join(", "),
            reason: error.to_string(),
            waited: std::time::Duration::ZERO,
        },
    })
}
