//! Systems of record that answer badly, and the schedule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "tests"
)]

mod bench;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bench::{Dial, ROUNDUP, acme, cache, furnish, roundup, store, workers};
use proptest::{strategy::ValueTree, test_runner::TestRunner};
use sluice_control_domain::{
    ChangeSet, Commit, ExceptionRecord, Integration, Kind, Load, RecordKey, Store, Tenant, Typed,
};
use sluice_control_workers::Workers;
use sluice_node_identity::UnixTime;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What the next connections answer to every request; closed after it.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Vec<u8>>>, Arc<AtomicU32>);

impl Answer {
    fn set(&self, bytes: impl Into<Vec<u8>>) {
        *self.0.lock().unwrap() = bytes.into();
    }

    /// Serves until the test ends.
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, this) = (listener.local_addr().unwrap(), self.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let this = this.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 8_192];
                    let _read = stream.read(&mut request).await;
                    this.1.fetch_add(1, Ordering::Relaxed);
                    let bytes = this.0.lock().unwrap().clone();
                    let _written = stream.write_all(&bytes).await;
                });
            }
        });
        address
    }
}

fn http(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// Good for both tables.
fn good() -> String {
    http(r#"{"data": {"collection": [{"id": "1", "username": "bob", "address": "bob@acme.test"}]}}"#)
}

async fn ready(dir: &TempDir, answer: &Answer) -> (Arc<dyn Store>, Arc<Workers>) {
    let store = store(dir.path());
    furnish(store.as_ref(), ROUNDUP).await;
    let workers = workers(dir.path(), Arc::clone(&store), cache(dir.path()), Dial(answer.serve().await));
    workers.put_service_credential(&acme(), &roundup(), "sync", "pw").await.unwrap();
    (store, workers)
}

async fn record(store: &dyn Store) -> Integration {
    let what = Load::Scan { kind: Kind::Integration, tenant: "acme".into(), after: None, limit: 10 };
    store.load(what).await.unwrap().remove(0).typed().unwrap().body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_answer_fails_the_sync_and_changes_nothing() {
    let (dir, answer) = (TempDir::new().unwrap(), Answer::default());
    let (store, workers) = ready(&dir, &answer).await;
    answer.set(good());
    assert_eq!(workers.sync(&acme(), &roundup()).await.unwrap().0, 2);
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let huge = http(&" ".repeat(17 * 1024 * 1024));
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let deep = http(&"[".repeat(100_000));
    let cases: [(&str, Vec<u8>); 9] = [
        ("nothing", vec![]),
        ("noise", vec![0xff; 512]),
        ("cut off", good().into_bytes()[..80].to_vec()),
        ("endless header", endless.into_bytes()),
        ("too many fields", format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes()),
        ("body too long", huge.into_bytes()),
        ("too deep", deep.into_bytes()),
        ("redirect", b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("empty list", http(r#"{"data": {"collection": []}}"#).into_bytes()),
    ];
    for (name, bytes) in cases {
        answer.set(bytes);
        assert!(workers.sync(&acme(), &roundup()).await.is_err(), "{name}");
        assert_eq!(workers.cache(&acme(), &roundup(), "user", 10).await.unwrap().len(), 1, "{name}");
        let (_, rows, error) = record(store.as_ref()).await.last_sync.unwrap();
        assert!(rows == 2 && error.is_some(), "{name}: a failed sync never looks like a good one");
    }
    let mut runner = TestRunner::deterministic();
    for _ in 0..24 {
        let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..200);
        let bytes = proptest::strategy::Strategy::new_tree(&bytes, &mut runner).unwrap().current();
        answer.set([b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes].concat());
        assert!(workers.sync(&acme(), &roundup()).await.is_err(), "{bytes:?}");
    }
    answer.set(good());
    assert_eq!(workers.sync(&acme(), &roundup()).await.unwrap(), (2, 0, 0));
    assert_eq!(record(store.as_ref()).await.last_sync.unwrap().2, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn m5_what_is_due_is_synced_by_itself_and_no_oftener() {
    let (dir, answer) = (TempDir::new().unwrap(), Answer::default());
    let (store, workers) = ready(&dir, &answer).await;
    answer.set(good());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let schedule = tokio::spawn(Arc::clone(&workers).run_schedule(async { drop(stopped.await) }));
    for _ in 0..600 {
        if record(store.as_ref()).await.last_sync.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(record(store.as_ref()).await.last_sync.unwrap().2, None);
    let asked = answer.1.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(answer.1.load(Ordering::Relaxed), asked, "24 hours are not over");
    stop.send(()).unwrap();
    schedule.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_cache_is_broken_keeps_no_other_from_being_synced() {
    let (dir, answer) = (TempDir::new().unwrap(), Answer::default());
    let (store, workers) = ready(&dir, &answer).await;
    answer.set(good());
    // Comes before acme in every list.
    let broken: sluice_node_identity::TenantId = "aaa".parse().unwrap();
    let key = RecordKey { kind: Kind::Tenant, tenant: String::new(), id: "acme".into() };
    let acme: Typed<Tenant> = store.load(Load::Keys(vec![key])).await.unwrap().pop().unwrap().typed().unwrap();
    let tenant = Tenant { id: broken.clone(), ..acme.body };
    assert_eq!(store.commit(ChangeSet::of(&broken).create(&tenant)).await.unwrap(), Commit::Done);
    std::fs::write(dir.path().join("cache/aaa.db"), [0x5a; 8192]).unwrap();
    assert!(workers.drain(&broken).await.is_err());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let schedule = tokio::spawn(Arc::clone(&workers).run_schedule(async { drop(stopped.await) }));
    for _ in 0..600 {
        if record(store.as_ref()).await.last_sync.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(record(store.as_ref()).await.last_sync.expect("acme waits for aaa").2, None);
    stop.send(()).unwrap();
    schedule.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_exceptions_that_are_over_are_removed_by_themselves_and_audited() {
    let (dir, answer) = (TempDir::new().unwrap(), Answer::default());
    let (store, workers) = ready(&dir, &answer).await;
    let now = UnixTime::from(std::time::SystemTime::now());
    let exception = |id: &str, until: UnixTime| ExceptionRecord {
        tenant: acme(),
        id: id.parse().unwrap(),
        site: "dc".parse().unwrap(),
        resource: id.parse().unwrap(),
        target: "tcp:pump.test:22".parse().unwrap(),
        networks: vec![],
        callers: vec!["control".into()],
        made: UnixTime(now.0 - 100),
        until,
        why: "repair".into(),
        by: "token/0".into(),
    };
    let (over, holds) = (exception("x-1", UnixTime(now.0 - 1)), exception("x-2", now.plus(3600)));
    let set = ChangeSet::of(&acme()).create(&over).create(&holds);
    assert_eq!(store.commit(set).await.unwrap(), Commit::Done);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let schedule = tokio::spawn(Arc::clone(&workers).run_schedule(async { drop(stopped.await) }));
    let scan = || Load::Scan { kind: Kind::Exception, tenant: "acme".into(), after: None, limit: 9 };
    for _ in 0..600 {
        if store.load(scan()).await.unwrap().len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.load(scan()).await.unwrap()[0].key.id, "x-2");
    let (_, entry, _) = store.audit(Some(&acme()), 0, 100).await.unwrap().pop().unwrap();
    assert_eq!((entry.act.as_str(), entry.subject.as_str()), ("exception.end", "exception/x-1"));
    stop.send(()).unwrap();
    schedule.await.unwrap();
}
