//! What end-to-end rooms need on the server besides their logs: key packages that devices deposit, and what commits
//! bring along. All of it is opaque, and all of it is bounded in number, in bytes and, but for what belongs to the
//! newest commits of a room, in time.
//!
//! [`Item`] is one deposited thing, [`Items`] a place that keeps them (a table on disk, a map in memory, which a cluster
//! keeps per user at its engine), and
//! [`desk`] everything that is done with them, the same for both places.

pub mod desk;
mod item;
mod memory_items;
mod requests;

pub(super) use item::{Item, Items, Kind, Place, of_device, owner_tag};
pub(super) use memory_items::{MemoryItems, infallible};
pub use requests::{DeviceKeys, E2eFound, E2eQuery, E2eReply, E2eRequest, GroupInfo, Invited};
