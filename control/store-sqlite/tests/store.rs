//! The SQLite store under the shared suite, and what only this store promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{path::Path, sync::Arc};

use serde_json::json;
use sluice_control_domain::{
    AuditEntry, ChangeSet, Commit, Kind, Load, RecordKey, StateAudience, StateChange, StatePage, Store, Write, suite,
};
use sluice_control_store_sqlite::{STATE_LOG_KEPT, SqliteStore};
use sluice_node_identity::{TenantId, UnixTime};

const KEY: [u8; 32] = [7; 32];

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(&dir.join("store.db"), &KEY).unwrap()
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn put(id: &str) -> ChangeSet {
    let key = RecordKey { kind: Kind::Hub, tenant: "acme".to_owned(), id: id.to_owned() };
    let write = Write::Put { key, body: json!("clear-text-marker"), index: vec![] };
    ChangeSet { writes: vec![write], ..ChangeSet::of(&acme()) }
}

fn entry(n: u64) -> AuditEntry {
    let (actor, act, subject) = ("root".to_owned(), "test.act".to_owned(), format!("hub/{n}"));
    AuditEntry { at: UnixTime(n), actor, act, subject, detail: json!(null) }
}

async fn count(store: &SqliteStore) -> usize {
    let what = Load::Scan { kind: Kind::Hub, tenant: "acme".to_owned(), after: None, limit: 1_000 };
    store.load(what).await.unwrap().len()
}

#[tokio::test]
async fn the_shared_suite_holds() {
    let dir = tempfile::tempdir().unwrap();
    suite::all(&open(dir.path())).await;
}

#[tokio::test]
async fn commits_and_their_number_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(put("a")).await.unwrap();
    let number = store.changed(0).await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(count(&store).await, 1);
    assert_eq!(store.changed(0).await, number);
}

#[tokio::test]
async fn the_file_is_encrypted_and_another_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(put("a")).await.unwrap();
    drop(store);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(17).any(|w| w == b"clear-text-marker"));
        assert!(!bytes.starts_with(b"SQLite format 3"));
    }
    let error = format!("{:#}", SqliteStore::open(&dir.path().join("store.db"), &[8; 32]).unwrap_err());
    assert!(error.contains("key is wrong"), "{error}");
}

#[tokio::test]
async fn many_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let tasks: Vec<_> = (0..300_u32)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(put(&format!("h{n}")).audit(entry(n.into()))).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Commit::Done);
    }
    assert_eq!(count(&store).await, 300);
    assert_eq!(store.verify_audit(Some(&acme()), None).await.unwrap().unwrap().seq, 300);
}

#[tokio::test]
async fn exactly_one_of_many_creations_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let key = RecordKey { kind: Kind::Hub, tenant: "acme".to_owned(), id: "x".to_owned() };
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (store, set) = (store.clone(), ChangeSet { expected: vec![(key.clone(), 0)], ..put("x") });
            tokio::spawn(async move { store.commit(set).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += u32::from(task.await.unwrap() == Commit::Done);
    }
    assert_eq!(done, 1);
}

#[tokio::test]
async fn a_node_behind_the_kept_state_log_gets_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let change =
        |n: u64| StateChange { audience: StateAudience::Tenant, key: format!("k{}", n % 7), value: Some(json!(n)) };
    let many = ChangeSet { state: (0..STATE_LOG_KEPT + 5).map(change).collect(), ..ChangeSet::of(&acme()) };
    store.commit(many).await.unwrap();
    let page = async |after| store.state(&acme(), &[StateAudience::Tenant], Some(after)).await.unwrap();
    assert!(
        matches!(page(4).await, StatePage::Snapshot { seq, entries } if seq == STATE_LOG_KEPT + 5 && entries.len() == 7)
    );
    assert!(matches!(page(5).await, StatePage::Changes(changes) if changes.first().unwrap().0 == 6));
}

#[tokio::test]
async fn t5_tampering_with_the_audit_chain_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..5 {
        store.commit(ChangeSet::of(&acme()).audit(entry(n))).await.unwrap();
    }
    let head = store.verify_audit(Some(&acme()), None).await.unwrap().unwrap();
    assert_eq!(head.seq, 5);
    drop(store);
    let tampers = [
        ("UPDATE audit SET entry = replace(entry, 'hub/2', 'hub/9') WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 2", 2),
        (
            "UPDATE audit SET seq = CASE seq WHEN 1 THEN 102 ELSE 101 END WHERE seq IN (1, 2); UPDATE audit SET seq = seq - 100 WHERE seq > 100",
            1,
        ),
        ("UPDATE audit SET tenant = 'globex' WHERE seq = 4", 4),
        ("DELETE FROM audit WHERE seq = 5", 5),
    ];
    for (tamper, at) in tampers {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("store.db"), copy.path().join("store.db")).unwrap();
        let raw = rusqlite::Connection::open(copy.path().join("store.db")).unwrap();
        raw.execute_batch(&format!("PRAGMA key = \"x'{}'\"", "07".repeat(32))).unwrap();
        raw.execute_batch(tamper).unwrap();
        drop(raw);
        let found = open(copy.path()).verify_audit(Some(&acme()), Some(head.clone())).await.unwrap();
        assert_eq!(found.unwrap_err().seq, at, "{tamper}");
    }
    let forged = sluice_control_store_sqlite::AuditCheckpoint { seq: 2, hash: "00".to_owned() };
    assert_eq!(open(dir.path()).verify_audit(Some(&acme()), Some(forged)).await.unwrap().unwrap_err().seq, 2);
}

#[tokio::test]
async fn a_backup_under_load_is_whole_and_a_restored_one_makes_nodes_start_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let state = |n: u64| {
        let change = StateChange { audience: StateAudience::Tenant, key: "k".to_owned(), value: Some(json!(n)) };
        put(&format!("h{n}")).state(change).audit(entry(n))
    };
    for n in 0..50 {
        store.commit(state(n)).await.unwrap();
    }
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 50..150 {
                store.commit(state(n)).await.unwrap();
            }
        }
    });
    let copy = dir.path().join("copy.db");
    store.backup_to(&copy).await.unwrap();
    busy.await.unwrap();
    assert!(store.backup_to(&copy).await.is_err(), "a backup overwrites nothing");

    SqliteStore::after_restore(&copy, &KEY).unwrap();
    let restored = SqliteStore::open(&copy, &KEY).unwrap();
    let rows = count(&restored).await;
    assert!((50..=150).contains(&rows));
    let chain = restored.verify_audit(Some(&acme()), None).await.unwrap().unwrap();
    assert_eq!(chain.seq, rows as u64, "records and audit are from one moment");
    for after in [0, 49, 150, 1_000_000] {
        let page = restored.state(&acme(), &[StateAudience::Tenant], Some(after)).await.unwrap();
        assert!(matches!(page, StatePage::Snapshot { .. }), "{after}");
    }
}
