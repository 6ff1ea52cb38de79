//! Putting rows in place together with the cards that follow, in one transaction.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sluice_control_feed::{Context, FeedMessage, NewCard, People, derive, verdict};
use sluice_control_sync::{Change, ChangeKind, Key};
use sluice_node_identity::{UnixTime, UserId};

use super::{
    diff::diff,
    rows::{Rows, name},
    stage::still,
};
use crate::{CacheError, Changed, RowEdit, Swap, Target};

/// Most cards one sync makes; a rule that makes more is a mistake, and a feed of more is useless.
const MAX_CARDS: u64 = 10_000;

/// What a swap or an edit is done with.
struct Work<'w> {
    tx: &'w Transaction<'w>,
    target: &'w Target,
    people: &'w People,
    now: UnixTime,
    generation: u64,
}

/// See [`crate::Cache::swap`].
pub(super) fn swap(db: &mut Connection, swap: &Swap) -> Result<Changed, CacheError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    still(&tx, &swap.target.integration, &swap.run)?;
    let work = Work {
        tx: &tx,
        target: &swap.target,
        people: &swap.people,
        now: swap.now,
        generation: next_generation(&tx, &swap.target)?,
    };
    let mut report = Changed::default();
    let mut eventful = Vec::new();
    for (table, spec) in swap.target.declaration.tables.iter().enumerate() {
        let baseline = !work.same_shape(table, &spec.fingerprint())?;
        let found = diff(&tx, swap, table)?;
        let expired = found.expired.len() as u64;
        found
            .tally
            .believe(expired, spec.max_deleted_percent)
            .map_err(|why| CacheError::Incredible { table: spec.name.clone(), why })?;
        for key in &found.expired {
            work.remove(table, key)?;
        }
        for change in &found.changes {
            work.put(change)?;
        }
        report.rows += found.tally.new;
        if !baseline {
            report.changed += found.changes.len() as u64;
            eventful.extend(found.changes);
        }
    }
    work.forget_other_tables()?;
    work.follow(&eventful, &mut report)?;
    work.close_cards(&mut report)?;
    tx.execute("DELETE FROM staged WHERE integration = ?1", [swap.target.integration.as_str()])?;
    tx.commit()?;
    Ok(report)
}

/// See [`crate::Cache::edit`].
pub(super) fn edit(db: &mut Connection, edit: &RowEdit) -> Result<Changed, CacheError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let generation = next_generation(&tx, &edit.target)?;
    let work = Work { tx: &tx, target: &edit.target, people: &edit.people, now: edit.now, generation };
    let before = Rows::new(&tx, &edit.target).row(edit.table, &edit.key)?;
    let change = Change { table: edit.table, key: edit.key.clone(), before, after: edit.row.clone() };
    let mut report = Changed::default();
    if change.before != change.after {
        work.put(&change)?;
        work.put_staged(&change)?;
        report.changed = 1;
        work.follow(std::slice::from_ref(&change), &mut report)?;
    }
    if let Some((card, reason)) = &edit.close {
        work.close(card, reason, &mut report)?;
    }
    work.close_cards(&mut report)?;
    tx.commit()?;
    Ok(report)
}

fn next_generation(tx: &Transaction<'_>, target: &Target) -> Result<u64, CacheError> {
    let generation: i64 = tx.query_row(
        "INSERT INTO integration (id, generation, run) VALUES (?1, 1, '')
         ON CONFLICT (id) DO UPDATE SET generation = generation + 1 RETURNING generation",
        [target.integration.as_str()],
        |row| row.get(0),
    )?;
    Ok(generation.unsigned_abs())
}

impl Work<'_> {
    fn context(&self) -> Context<'_> {
        Context {
            tenant: &self.target.tenant,
            integration: &self.target.integration,
            declaration: &self.target.declaration,
            generation: self.generation,
            now: self.now,
        }
    }

    /// Whether the rows that are there were fetched the same way; notes the new way.
    fn same_shape(&self, table: usize, fingerprint: &[u8; 32]) -> Result<bool, CacheError> {
        let (integration, table) = (self.target.integration.as_str(), name(self.target, table));
        let former: Option<[u8; 32]> = self
            .tx
            .query_row(
                "SELECT fingerprint FROM base WHERE integration = ?1 AND tbl = ?2",
                [integration, table],
                |row| row.get(0),
            )
            .optional()?;
        self.tx.execute(
            "INSERT OR REPLACE INTO base (integration, tbl, fingerprint) VALUES (?1, ?2, ?3)",
            params![integration, table, fingerprint],
        )?;
        Ok(former.as_ref() == Some(fingerprint))
    }

    fn put(&self, change: &Change) -> Result<(), CacheError> {
        let Some(row) = &change.after else { return self.remove(change.table, &change.key) };
        self.tx
            .prepare_cached(
                "INSERT OR REPLACE INTO live (integration, tbl, key, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                self.target.integration.as_str(),
                name(self.target, change.table),
                change.key,
                row.hash(),
                serde_json::to_string(row)?
            ])?;
        Ok(())
    }

    fn remove(&self, table: usize, key: &Key) -> Result<(), CacheError> {
        self.tx
            .prepare_cached("DELETE FROM live WHERE integration = ?1 AND tbl = ?2 AND key = ?3")?
            .execute(params![self.target.integration.as_str(), name(self.target, table), key])?;
        Ok(())
    }

    /// A sync that is under way may have fetched the row before it changed: it must not put the old one back.
    fn put_staged(&self, change: &Change) -> Result<(), CacheError> {
        let (integration, table) = (self.target.integration.as_str(), name(self.target, change.table));
        match &change.after {
            Some(row) => self.tx.execute(
                "UPDATE staged SET hash = ?4, body = ?5 WHERE integration = ?1 AND tbl = ?2 AND key = ?3",
                params![integration, table, change.key, row.hash(), serde_json::to_string(row)?],
            )?,
            None => self.tx.execute(
                "DELETE FROM staged WHERE integration = ?1 AND tbl = ?2 AND key = ?3",
                params![integration, table, change.key],
            )?,
        };
        Ok(())
    }

    /// Tables that are declared no more are no longer kept.
    fn forget_other_tables(&self) -> Result<(), CacheError> {
        let integration = self.target.integration.as_str();
        let mut statement = self.tx.prepare("SELECT tbl FROM base WHERE integration = ?1")?;
        let known =
            statement.query_map([integration], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        for table in known.iter().filter(|table| self.target.declaration.table(table).is_none()) {
            self.tx.execute("DELETE FROM live WHERE integration = ?1 AND tbl = ?2", [integration, table])?;
            self.tx.execute("DELETE FROM base WHERE integration = ?1 AND tbl = ?2", [integration, table])?;
        }
        Ok(())
    }

    /// Notes the cards that changes make.
    fn follow(&self, changes: &[Change], report: &mut Changed) -> Result<(), CacheError> {
        let rows = Rows::new(self.tx, self.target);
        for change in changes {
            for card in derive(self.context(), change, &rows, self.people)? {
                if report.cards >= MAX_CARDS {
                    report.suppressed += 1;
                } else {
                    report.cards += 1;
                    self.open(card)?;
                }
            }
        }
        Ok(())
    }

    fn open(&self, card: NewCard) -> Result<(), CacheError> {
        self.tx
            .prepare_cached(
                "INSERT OR IGNORE INTO open_card (id, integration, rule, tbl, key, user, kind)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                card.id,
                self.target.integration.as_str(),
                card.rule,
                card.text.table,
                card.text.key,
                card.user.as_str(),
                serde_json::to_string(&card.text.kind)?
            ])?;
        self.tell(&FeedMessage::Open(card))
    }

    /// Judges every open card of the integration anew: rows, rules, foreign rows or accounts may have changed.
    fn close_cards(&self, report: &mut Changed) -> Result<(), CacheError> {
        let mut statement =
            self.tx.prepare("SELECT id, rule, tbl, key, user, kind FROM open_card WHERE integration = ?1")?;
        let cards = statement
            .query_map([self.target.integration.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })?
            .collect::<Result<Vec<(String, String, String, Key, String, String)>, _>>()?;
        let rows = Rows::new(self.tx, self.target);
        for (id, rule, table, key, user, kind) in cards {
            let kind: ChangeKind = serde_json::from_str(&kind)?;
            let row = match self.target.declaration.table(&table) {
                Some((table, _)) => rows.row(table, &key)?,
                None => None,
            };
            let person = user.parse::<UserId>().ok().and_then(|user| self.people.user(&user));
            if let Some(reason) = verdict(self.context(), &rule, kind, row.as_ref(), person, &rows)? {
                self.close(&id, reason, report)?;
            }
        }
        Ok(())
    }

    fn close(&self, card: &str, reason: &str, report: &mut Changed) -> Result<(), CacheError> {
        if self.tx.execute("DELETE FROM open_card WHERE id = ?1", [card])? == 1 {
            report.closed += 1;
            self.tell(&FeedMessage::Close { id: card.to_owned(), reason: reason.to_owned(), at: self.now })?;
        }
        Ok(())
    }

    fn tell(&self, message: &FeedMessage) -> Result<(), CacheError> {
        self.tx
            .prepare_cached("INSERT INTO message (integration, body) VALUES (?1, ?2)")?
            .execute(params![self.target.integration.as_str(), serde_json::to_string(message)?])?;
        Ok(())
    }
}
