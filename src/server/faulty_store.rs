//! Faults of a store, for tests.

use std::sync::Arc;

use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::{
    Head, OpenedStore, Page, PageRange, Resumption, RoomCount, RoomLogReader, StoreError,
};
use crate::sys::fault_points;

/// Puts the fault point `store_read` before every read.
pub fn with_fault_points(store: OpenedStore) -> OpenedStore {
    OpenedStore { reader: Arc::new(FaultyReader(store.reader)), ..store }
}

struct FaultyReader(Arc<dyn RoomLogReader>);

impl FaultyReader {
    fn reader(&self) -> &dyn RoomLogReader {
        fault_points::point("store_read");
        &*self.0
    }
}

impl RoomCount for FaultyReader {
    fn room_count(&self) -> u64 {
        self.0.room_count()
    }
}

impl RoomLogReader for FaultyReader {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        self.reader().head(room)
    }

    fn resume(&self, room: &RoomName, position: &Position) -> Result<Resumption, StoreError> {
        self.reader().resume(room, position)
    }

    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.reader().page(room, range, limit, bytes)
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        self.reader().since(room, at)
    }

    fn kept(&self, room: &RoomName) -> Result<u64, StoreError> {
        self.reader().kept(room)
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        self.reader().rooms()
    }
}
