//! What was acknowledged is there after kill -9.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use sluice_control_domain::{AuditEntry, ChangeSet, Kind, Load, OutboxEntry, RecordKey, Store, Write};
use sluice_control_store_sqlite::SqliteStore;
use sluice_node_identity::{TenantId, UnixTime};

const KEY: [u8; 32] = [7; 32];
/// Environment variable by which the test tells its child where to write.
const FILE: &str = "SLUICE_TEST_CRASH_FILE";
/// Kills in the gate; `SLUICE_TEST_KILLS` asks for more.
const KILLS: u32 = 6;

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn change(id: &str) -> ChangeSet {
    let key = RecordKey { kind: Kind::Hub, tenant: "acme".to_owned(), id: id.to_owned() };
    let audit = AuditEntry {
        at: UnixTime(0),
        actor: "root".to_owned(),
        act: "test".to_owned(),
        subject: id.to_owned(),
        detail: json!(null),
    };
    ChangeSet {
        expected: vec![(key.clone(), 0)],
        writes: vec![Write::Put { key, body: json!(id), index: vec![("site", "s".to_owned())] }],
        outbox: vec![OutboxEntry { id: id.to_owned(), topic: "t".to_owned(), body: json!(id) }],
        ..ChangeSet::of(&acme()).audit(audit)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "not a test: the writer that kill_minus_9_loses_nothing_acknowledged starts and kills"]
async fn writer_to_be_killed() {
    let file = PathBuf::from(std::env::var_os(FILE).unwrap());
    let store = Arc::new(SqliteStore::open(&file, &KEY).unwrap());
    let run = std::process::id();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let id = format!("{run}-{task}-{n}");
                    store.commit(change(&id)).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {id}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn run_and_kill(file: &Path, lines: usize, extra: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "writer_to_be_killed", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while acknowledged.len() < lines {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the writer ended by itself");
        acknowledged.extend(line.trim().strip_prefix("acknowledged ").map(str::to_owned));
    }
    std::thread::sleep(extra);
    child.kill().unwrap();
    child.wait().unwrap();
    let whole = |line: &std::io::Result<String>| line.is_ok();
    let rest: Vec<_> = out.lines().take_while(whole).map(Result::unwrap).collect();
    acknowledged.extend(rest.iter().filter_map(|line| line.strip_prefix("acknowledged ")).map(str::to_owned));
    acknowledged
}

async fn stored(store: &SqliteStore) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut after = None;
    loop {
        let what = Load::Scan { kind: Kind::Hub, tenant: "acme".to_owned(), after, limit: 1_000 };
        let page = store.load(what).await.unwrap();
        let Some(last) = page.last() else { return ids };
        after = Some(last.key.id.clone());
        ids.extend(page.into_iter().map(|stored| stored.key.id));
    }
}

#[tokio::test]
async fn kill_minus_9_loses_nothing_acknowledged() {
    let kills = std::env::var("SLUICE_TEST_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let mut acknowledged = BTreeSet::new();
    for round in 0..kills {
        let extra = Duration::from_micros(u64::from(round.wrapping_mul(2_654_435_761) % 4_000));
        acknowledged.extend(run_and_kill(&file, 5 + round as usize % 20, extra));
        let store = SqliteStore::open(&file, &KEY).unwrap();
        let stored = stored(&store).await;
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        let audited = store.verify_audit(Some(&acme()), None).await.unwrap().unwrap().seq;
        assert_eq!(audited, stored.len() as u64, "round {round}: a record without its audit entry, or the reverse");
    }
}
