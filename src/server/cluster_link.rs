//! What connects this server with the other servers of its cluster, besides the room log.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::credentials::shared_access::SharedValue;
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
    /// The secret of the cluster.
    pub secret: Zeroizing<[u8; 32]>,
}
