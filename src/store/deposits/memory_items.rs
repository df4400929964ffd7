//! Deposits in memory: those of a store in memory, and those of one user while they are changed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::RangeInclusive;

use super::item::{Item, Items, Kind, Place};
use crate::protocol::Timestamp;

/// By place; [`Items`] says what the order is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryItems(BTreeMap<Place, Item>);

impl MemoryItems {
    /// All items, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.0.values()
    }

    fn places(
        &self,
        kind: Kind,
        owner: &[u8],
        numbers: RangeInclusive<u64>,
    ) -> impl DoubleEndedIterator<Item = (&Place, &Item)> {
        let (first, last) = numbers.into_inner();
        let from = Place { kind, owner: owner.into(), number: first, sub: Vec::new() };
        let to =
            Place { kind, owner: owner.into(), number: last.saturating_add(1), sub: Vec::new() };
        self.0.range(from..to)
    }
}

const ALL: RangeInclusive<u64> = 0..=u64::MAX >> 1;

impl Items for MemoryItems {
    type Error = Infallible;

    fn put(&mut self, item: Item) -> Result<(), Infallible> {
        self.0.insert(item.place(), item);
        Ok(())
    }

    fn has(&self, place: &Place) -> Result<bool, Infallible> {
        Ok(self.0.contains_key(place))
    }

    fn remove(&mut self, place: &Place) -> Result<(), Infallible> {
        self.0.remove(place);
        Ok(())
    }

    fn list(
        &self,
        kind: Kind,
        owner: &[u8],
        numbers: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Item>, Infallible> {
        let items = self.places(kind, owner, numbers).take(limit);
        Ok(items.map(|(_, item)| item.clone()).collect())
    }

    fn count(&self, kind: Kind, owner: &[u8]) -> Result<(u64, u64), Infallible> {
        let last = self.places(kind, owner, ALL).next_back().map_or(0, |(place, _)| place.number);
        Ok((self.places(kind, owner, ALL).count() as u64, last))
    }

    fn count_all(&self, kind: Kind) -> Result<u64, Infallible> {
        let from = Place { kind, owner: Vec::new(), number: 0, sub: Vec::new() };
        Ok(self.0.range(from..).take_while(|(place, _)| place.kind == kind).count() as u64)
    }

    fn trim(&mut self, kind: Kind, owner: &[u8], keep: u64) -> Result<(), Infallible> {
        let mut items: Vec<(Option<Timestamp>, Place)> =
            self.places(kind, owner, ALL).map(|(place, item)| (item.at(), place.clone())).collect();
        items.sort();
        let surplus = items.len().saturating_sub(keep as usize);
        items[..surplus].iter().for_each(|(_, place)| drop(self.0.remove(place)));
        Ok(())
    }

    fn expire(&mut self, before: Timestamp, limit: usize) -> Result<usize, Infallible> {
        let expired = self.0.iter().filter(|(_, item)| item.at().is_some_and(|at| at < before));
        let expired: Vec<Place> = expired.take(limit).map(|(place, _)| place.clone()).collect();
        expired.iter().for_each(|place| drop(self.0.remove(place)));
        Ok(expired.len())
    }
}

/// The value of a result that can't be an error.
pub fn infallible<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}
