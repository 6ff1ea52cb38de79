//! Audit chains: each link's hash is an HMAC over the former hash, its number and its text, so neither a change, a
//! removal nor a swap goes unseen by whoever holds the key; cutting off the end shows against a checkpoint kept elsewhere.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use rusqlite::{Connection, OptionalExtension, params};
use sluice_control_domain::AuditEntry;

use crate::read::typed;

/// Hash before the first link.
const GENESIS: &str = "";

/// The newest link of a chain at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// Its number; 0 for an empty chain.
    pub seq: u64,
    /// Its hash, hexadecimal; empty for an empty chain.
    pub hash: String,
}

/// The chain was tampered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditBroken {
    /// First link that is missing or does not hold.
    pub seq: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

impl std::fmt::Display for AuditBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "audit entry {} {}; compare with exported checkpoints and backups", self.seq, self.what)
    }
}

impl std::error::Error for AuditBroken {}

fn link(key: &hmac::Key, tenant: &str, seq: u64, prev: &str, entry: &str) -> String {
    let mut context = hmac::Context::with_key(key);
    for part in [tenant, prev, entry] {
        // Lengths in front: no two different triples give the same bytes.
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(&seq.to_be_bytes());
    context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn append(
    connection: &Connection,
    key: &hmac::Key,
    tenant: &str,
    entry: &AuditEntry,
) -> rusqlite::Result<()> {
    let head: Option<(u64, String)> = connection
        .prepare_cached("SELECT seq, hash FROM audit WHERE tenant = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (last, prev) = head.unwrap_or((0, GENESIS.to_owned()));
    let seq = last.saturating_add(1);
    let text =
        serde_json::to_string(entry).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let hash = link(key, tenant, seq, &prev, &text);
    connection
        .prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![tenant, seq, text, prev, hash])?;
    Ok(())
}

pub(crate) fn page(
    connection: &Connection,
    tenant: &str,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Vec<(u64, AuditEntry, String)>> {
    connection
        .prepare_cached("SELECT seq, entry, hash FROM audit WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?
        .query_map(params![tenant, after, limit], |row| Ok((row.get(0)?, typed(row, 1)?, row.get(2)?)))?
        .collect()
}

pub(crate) fn verify(
    connection: &Connection,
    key: &hmac::Key,
    tenant: &str,
    known: Option<&AuditCheckpoint>,
) -> rusqlite::Result<Result<AuditCheckpoint, AuditBroken>> {
    let mut statement =
        connection.prepare_cached("SELECT seq, entry, prev, hash FROM audit WHERE tenant = ?1 ORDER BY seq")?;
    let mut rows = statement.query([tenant])?;
    let mut head = AuditCheckpoint { seq: 0, hash: GENESIS.to_owned() };
    while let Some(row) = rows.next()? {
        let seq = head.seq.saturating_add(1);
        let (found, entry, prev, hash): (u64, String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        if found != seq {
            return Ok(Err(AuditBroken { seq, what: "is missing" }));
        }
        let expected = link(key, tenant, seq, &head.hash, &entry);
        if prev != head.hash || verify_slices_are_equal(expected.as_bytes(), hash.as_bytes()).is_err() {
            return Ok(Err(AuditBroken { seq, what: "was altered" }));
        }
        head = AuditCheckpoint { seq, hash };
        if known.is_some_and(|known| known.seq == seq && known.hash != head.hash) {
            return Ok(Err(AuditBroken { seq, what: "is not the one in the checkpoint" }));
        }
    }
    match known {
        Some(known) if known.seq > head.seq => {
            Ok(Err(AuditBroken { seq: head.seq.saturating_add(1), what: "is missing although a checkpoint names it" }))
        }
        _ => Ok(Ok(head)),
    }
}
