//! What connects this server with the other servers of its cluster, besides the room log.

use std::sync::Arc;

use crate::credentials::shared_access::SharedValue;
use crate::crypto::secrets::Secrets;
use crate::store::EngineInspector;

/// The connection, and the values that the servers of the cluster share.
pub struct ClusterLink {
    /// Messages between the servers that are not stored.
    pub client: async_nats::Client,
    /// The access list of the cluster.
    pub access: Arc<dyn SharedValue>,
    /// Looks at the engine again.
    pub inspector: EngineInspector,
    /// The beginning of all subjects.
    pub prefix: String,
    /// The name of this server for operators.
    pub name: String,
    /// The secrets of the cluster.
    pub secrets: Secrets,
}
