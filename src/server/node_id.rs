//! The identity of a running server among the nodes of a cluster.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::random::fill_random;

/// Identifies one run of one server: chosen at random when it starts, so a server that was restarted is
/// another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// A new id.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        fill_random(&mut bytes);
        NodeId(u64::from_be_bytes(bytes))
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let id = u64::from_str_radix(&text, 16).ok().filter(|_| text.len() == 16);
        id.map(NodeId)
            .ok_or_else(|| serde::de::Error::custom("a node id has 16 hexadecimal digits"))
    }
}
