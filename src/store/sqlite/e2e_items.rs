//! The table of deposits for end-to-end rooms. Owners are hashed, and the items are sealed.

use std::ops::RangeInclusive;

use rusqlite::{Connection, Result, Transaction, TransactionBehavior, params};

use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::deposits::{E2eReply, E2eRequest, Item, Items, Kind, Place, desk, owner_tag};
use crate::store::retention::{MAX_PRUNED_PER_STEP, expires_before};

/// Carries out a request in a transaction of its own.
pub(super) fn answer(
    db: &Connection,
    sealer: &Sealer,
    requests: Vec<E2eRequest>,
    now: Timestamp,
) -> Result<Vec<E2eReply>> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let mut items = E2eItems { db, sealer };
    let answer = |request| desk::answer(&mut items, request, now);
    let replies = requests.into_iter().map(answer).collect::<Result<_>>()?;
    transaction.commit()?;
    Ok(replies)
}

/// Removes some of the items that have expired by `now`. Returns whether there may be more.
pub(super) fn expire(db: &Connection, sealer: &Sealer, now: Timestamp) -> Result<bool> {
    let before = expires_before(now, desk::KEEP);
    let expired = E2eItems { db, sealer }.expire(before, MAX_PRUNED_PER_STEP)?;
    Ok(expired >= MAX_PRUNED_PER_STEP)
}

/// The table, on a connection that is inside a transaction.
pub(super) struct E2eItems<'a> {
    pub db: &'a Connection,
    pub sealer: &'a Sealer,
}

/// Forgets the key packages of all devices, without those of last resort.
pub(super) fn forget_key_packages(db: &Connection) -> Result<()> {
    db.execute("DELETE FROM e2e_items WHERE kind = ?", [Kind::KeyPackage as i64]).map(drop)
}

impl Items for E2eItems<'_> {
    type Error = rusqlite::Error;

    fn put(&mut self, item: Item) -> Result<()> {
        let place = item.place();
        let (owner, sub) = place.tags(self.sealer);
        let at = item.at().map(Timestamp::micros);
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO e2e_items (kind, owner, number, sub, at, sealed)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                place.kind as i64,
                owner,
                place.number.cast_signed(),
                sub,
                at,
                item.seal(self.sealer)
            ])?;
        Ok(())
    }

    fn has(&self, place: &Place) -> Result<bool> {
        let (owner, sub) = place.tags(self.sealer);
        self.db
            .prepare_cached(
                "SELECT 1 FROM e2e_items WHERE kind = ? AND owner = ? AND number = ? AND sub = ?",
            )?
            .exists(params![place.kind as i64, owner, place.number.cast_signed(), sub])
    }

    fn remove(&mut self, place: &Place) -> Result<()> {
        let (owner, sub) = place.tags(self.sealer);
        self.db
            .prepare_cached(
                "DELETE FROM e2e_items WHERE kind = ? AND owner = ? AND number = ? AND sub = ?",
            )?
            .execute(params![place.kind as i64, owner, place.number.cast_signed(), sub])?;
        Ok(())
    }

    fn list(
        &self,
        kind: Kind,
        owner: &[u8],
        numbers: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<Item>> {
        let mut list = self.db.prepare_cached(
            "SELECT sealed FROM e2e_items WHERE kind = ? AND owner = ? AND number BETWEEN ? AND ?
             ORDER BY number, sub LIMIT ?",
        )?;
        let (first, last) = (numbers.start().cast_signed(), numbers.end().cast_signed());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let tag = owner_tag(self.sealer, owner);
        let mut rows = list.query(params![kind as i64, tag, first, last, limit])?;
        let mut items = Vec::new();
        while let Some(row) = rows.next()? {
            let item = Item::open(self.sealer, row.get_ref(0)?.as_blob().unwrap_or_default());
            // One that was moved here from another place is damage too.
            items.extend(item.filter(|item| {
                let place = item.place();
                place.kind == kind && place.owner == owner && numbers.contains(&place.number)
            }));
        }
        Ok(items)
    }

    fn count(&self, kind: Kind, owner: &[u8]) -> Result<(u64, u64)> {
        self.db
            .prepare_cached(
                "SELECT count(*), coalesce(max(number), 0) FROM e2e_items
                 WHERE kind = ? AND owner = ?",
            )?
            .query_row(params![kind as i64, owner_tag(self.sealer, owner)], |row| {
                let (count, last): (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok((count.cast_unsigned(), last.cast_unsigned()))
            })
    }

    fn count_all(&self, kind: Kind) -> Result<u64> {
        let count: i64 = self
            .db
            .prepare_cached(
                "SELECT count(*) FROM e2e_items INDEXED BY e2e_items_by_kind WHERE kind = ?",
            )?
            .query_row([kind as i64], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    fn trim(&mut self, kind: Kind, owner: &[u8], keep: u64) -> Result<()> {
        let tag = owner_tag(self.sealer, owner);
        self.db
            .prepare_cached(
                "DELETE FROM e2e_items WHERE kind = ?1 AND owner = ?2 AND (number, sub) IN
                 (SELECT number, sub FROM e2e_items WHERE kind = ?1 AND owner = ?2
                  ORDER BY at DESC, number DESC, sub DESC LIMIT -1 OFFSET ?3)",
            )?
            .execute(params![kind as i64, tag, i64::try_from(keep).unwrap_or(i64::MAX)])?;
        Ok(())
    }

    fn expire(&mut self, before: Timestamp, limit: usize) -> Result<usize> {
        self.db
            .prepare_cached(
                "DELETE FROM e2e_items WHERE (kind, owner, number, sub) IN
                 (SELECT kind, owner, number, sub FROM e2e_items WHERE at < ? ORDER BY at LIMIT ?)",
            )?
            .execute(params![before.micros(), i64::try_from(limit).unwrap_or(i64::MAX)])
    }
}
