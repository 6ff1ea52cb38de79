//! The whole way against a real Roundup: sync, card, action, crash.
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
mod roundup;

use std::{os::unix::process::ExitStatusExt, path::Path, process::Command, sync::Arc};

use async_trait::async_trait;
use bench::{Dial, ROUNDUP, acme, cache, furnish, roundup as integration, store, user, workers};
use roundup::{BOB, ISSUES, Roundup};
use sluice_control_domain::{Kind, Load, Store};
use sluice_control_feed::{FeedMessage, Person};
use sluice_control_sync::{Key, Row};
use sluice_control_workers::{
    BoxedIo, Cache, CacheError, Changed, Reach, ReachError, RowEdit, Swap, Target, WorkError, Workers,
};
use sluice_node_identity::{IntegrationId, ResourceId, TenantId};
use tempfile::TempDir;

async fn ready(dir: &Path, tracker: &Roundup) -> (Arc<dyn Store>, Arc<Workers>) {
    let store = store(dir);
    furnish(store.as_ref(), ROUNDUP).await;
    let workers = workers(dir, Arc::clone(&store), cache(dir), Dial(tracker.address));
    workers.put_service_credential(&acme(), &integration(), "sync", "syncpw").await.unwrap();
    (store, workers)
}

async fn titles(workers: &Workers, name: &str) -> Vec<String> {
    workers.cards(&user(name)).await.unwrap().into_iter().map(|card| card.title).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m4_m8_m9_u1_u2_u3_n1_from_assignment_to_resolved_as_that_user() {
    let (dir, tracker) = (TempDir::new().unwrap(), Roundup::start());
    let (store, workers) = ready(dir.path(), &tracker).await;
    let first = workers.full_sync(&acme(), &integration()).await.unwrap();
    assert_eq!((first.rows, first.changed, first.cards), (ISSUES as u64 + 6, 0, 0), "a baseline makes no cards");
    let rows = workers.cache(&acme(), &integration(), "issue", 1_000).await.unwrap();
    assert_eq!(rows.len(), ISSUES);
    assert!(rows.iter().any(|row| row["title"] == "issue 499" && row["status"] == "chatting"), "{:?}", rows[0]);
    let again = workers.sync(&acme(), &integration()).await.unwrap();
    assert_eq!(again, (ISSUES as u64 + 6, 0, 0));

    let bob = BOB;
    tracker.patch("alice", 8, &format!("{{\"assignedto\": \"{bob}\"}}"));
    assert_eq!(workers.sync(&acme(), &integration()).await.unwrap(), (ISSUES as u64 + 6, 1, 1));
    assert_eq!(titles(&workers, "bob").await, ["Issue 8 was assigned to you"]);
    assert!(titles(&workers, "alice").await.is_empty() && titles(&workers, "carol").await.is_empty(), "M9");
    let card = workers.cards(&user("bob")).await.unwrap().remove(0);
    assert_eq!(card.actions, [("resolve".to_owned(), "Resolve".to_owned())]);
    assert_eq!(card.body, "issue 7");

    let not_yet = workers.act(&user("bob"), &card.id, "resolve").await.unwrap_err();
    assert!(matches!(&not_yet, WorkError::Refused(text) if text.contains("store your own login")), "{not_yet}");
    assert_eq!(workers.credentials(&user("bob")).await.unwrap(), [(integration(), false)]);
    workers.put_credential(&user("bob"), &integration(), "bob", "bobpw").await.unwrap();
    assert_eq!(workers.credentials(&user("bob")).await.unwrap(), [(integration(), true)]);
    for (who, what) in [("alice", "resolve"), ("bob", "delete")] {
        let refused = workers.act(&user(who), &card.id, what).await.unwrap_err();
        assert!(matches!(refused, WorkError::NotFound(_)), "{refused}");
    }
    assert_eq!(workers.act(&user("bob"), &card.id, "resolve").await.unwrap(), "Resolve: done.");
    let history = tracker.admin(&["history", "issue8"]);
    let line = history.lines().find(|line| line.contains("set status")).expect(&history);
    assert!(line.starts_with("bob("), "U2: Roundup's own history names bob: {line}");
    assert!(titles(&workers, "bob").await.is_empty(), "the card closes");
    let cached = workers.cache(&acme(), &integration(), "issue", 1_000).await.unwrap();
    assert!(cached.iter().any(|row| row["id"] == 8 && row["status"] == "resolved"), "U3: read back into the cache");
    let refused = workers.act(&user("bob"), &card.id, "resolve").await.unwrap_err();
    assert!(matches!(refused, WorkError::NotFound(_)), "a closed card is no card");
    assert_eq!(workers.sync(&acme(), &integration()).await.unwrap(), (ISSUES as u64 + 6, 0, 0), "nothing is left over");
    let audit = store.audit(Some(&acme()), 0, 100).await.unwrap();
    let acts: Vec<_> = audit.iter().filter(|(_, entry, _)| entry.act == "card.act").collect();
    assert_eq!(acts.len(), 2, "T5: begun and written");
    assert!(acts.iter().all(|(_, entry, _)| entry.actor == "user/bob"));
}

/// Changes the issue behind the user's back right before his write arrives.
struct Meddler {
    tracker: Arc<Roundup>,
    body: &'static str,
    left: std::sync::Mutex<u32>,
    opened: std::sync::Mutex<u32>,
}

#[async_trait]
impl Reach for Meddler {
    async fn open(&self, tenant: &TenantId, resource: &ResourceId, sub: &str) -> Result<BoxedIo, ReachError> {
        if sub.starts_with("user/") {
            // An action reads over one connection and writes over a fresh one: meddle before each write.
            let mut opened = self.opened.lock().unwrap();
            *opened += 1;
            let mut left = self.left.lock().unwrap();
            if opened.is_multiple_of(2) && *left > 0 {
                *left -= 1;
                let (tracker, body) = (Arc::clone(&self.tracker), self.body);
                std::thread::spawn(move || tracker.patch("alice", 8, body)).join().unwrap();
            }
        }
        Dial(self.tracker.address).open(tenant, resource, sub).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn u1_a_change_in_between_is_never_overwritten() {
    let (dir, tracker) = (TempDir::new().unwrap(), Arc::new(Roundup::start()));
    let (store, first) = ready(dir.path(), &tracker).await;
    first.put_credential(&user("carol"), &integration(), "carol", "carolpw").await.unwrap();
    first.put_credential(&user("bob"), &integration(), "bob", "bobpw").await.unwrap();
    first.sync(&acme(), &integration()).await.unwrap();
    let bob = BOB;
    tracker.patch("alice", 8, &format!("{{\"assignedto\": \"{bob}\"}}"));
    first.sync(&acme(), &integration()).await.unwrap();
    let card = first.cards(&user("bob")).await.unwrap().remove(0);

    // Given to alice between the look and the write: bob's write is refused by the ETag, and the second look by us.
    let meddle = |body, left: u32| Meddler { tracker: Arc::clone(&tracker), body, left: left.into(), opened: 0.into() };
    let away = workers(dir.path(), Arc::clone(&store), cache(dir.path()), meddle("{\"assignedto\": \"3\"}", 1));
    let refused = away.act(&user("bob"), &card.id, "resolve").await.unwrap_err();
    assert!(refused.to_string().contains("somebody else's"), "{refused}");
    assert_ne!(tracker.admin(&["get", "status", "issue8"]).trim(), "8", "nothing was written");

    // Only the title changes: the second look finds it still bob's, and the second write succeeds.
    tracker.patch("alice", 8, &format!("{{\"assignedto\": \"{bob}\"}}"));
    let retitled = workers(dir.path(), Arc::clone(&store), cache(dir.path()), meddle("{\"title\": \"other\"}", 1));
    assert_eq!(retitled.act(&user("bob"), &card.id, "resolve").await.unwrap(), "Resolve: done.");
    assert_eq!(tracker.admin(&["get", "status", "issue8"]).trim(), "8");
    assert_eq!(tracker.admin(&["get", "title", "issue8"]).trim(), "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn u2_a_wrong_login_is_refused_and_tried_once() {
    let (dir, tracker) = (TempDir::new().unwrap(), Roundup::start());
    let (_store, workers) = ready(dir.path(), &tracker).await;
    workers.sync(&acme(), &integration()).await.unwrap();
    let bob = BOB;
    tracker.patch("alice", 8, &format!("{{\"assignedto\": \"{bob}\"}}"));
    workers.sync(&acme(), &integration()).await.unwrap();
    let card = workers.cards(&user("bob")).await.unwrap().remove(0);
    workers.put_credential(&user("bob"), &integration(), "bob", "wrong").await.unwrap();
    let refused = workers.act(&user("bob"), &card.id, "resolve").await.unwrap_err();
    assert!(refused.to_string().contains("refused your login"), "{refused}");
    workers.put_credential(&user("bob"), &integration(), "bob", "bobpw").await.unwrap();
    assert_eq!(workers.act(&user("bob"), &card.id, "resolve").await.unwrap(), "Resolve: done.", "not locked out");
    workers.put_service_credential(&acme(), &integration(), "sync", "wrong").await.unwrap();
    let refused = workers.sync(&acme(), &integration()).await.unwrap_err();
    assert!(refused.to_string().contains("refused the service account"), "{refused}");
    assert_eq!(workers.cache(&acme(), &integration(), "issue", 1_000).await.unwrap().len(), ISSUES, "nothing is lost");
}

/// A cache that kills the process at a chosen moment.
struct Deadly {
    inner: Arc<dyn Cache>,
    moment: String,
}

impl Deadly {
    fn at(&self, moment: &str) {
        if self.moment == moment {
            std::process::abort();
        }
    }
}

#[async_trait]
impl Cache for Deadly {
    async fn begin(&self, target: &Target, run: &str) -> Result<(), CacheError> {
        self.inner.begin(target, run).await
    }
    async fn stage(&self, t: &Target, run: &str, table: usize, rows: Vec<(Key, Row)>) -> Result<(), CacheError> {
        self.inner.stage(t, run, table, rows).await
    }
    async fn swap(&self, swap: Swap) -> Result<Changed, CacheError> {
        self.at("before swap");
        let changed = self.inner.swap(swap).await;
        self.at("after swap");
        changed
    }
    async fn edit(&self, edit: RowEdit) -> Result<Changed, CacheError> {
        self.inner.edit(edit).await
    }
    async fn visible(&self, t: &Target, p: &Person, r: Vec<(String, Key)>) -> Result<Vec<bool>, CacheError> {
        self.inner.visible(t, p, r).await
    }
    async fn sees(&self, t: &Target, p: &Person, table: usize, row: Row) -> Result<bool, CacheError> {
        self.inner.sees(t, p, table, row).await
    }
    async fn rows(&self, t: &Target, table: usize, limit: u32) -> Result<Vec<serde_json::Value>, CacheError> {
        self.inner.rows(t, table, limit).await
    }
    async fn row(&self, t: &Target, table: usize, key: &Key) -> Result<Option<Row>, CacheError> {
        self.inner.row(t, table, key).await
    }
    async fn messages(&self, t: &TenantId, limit: u32) -> Result<Vec<(u64, IntegrationId, FeedMessage)>, CacheError> {
        self.inner.messages(t, limit).await
    }
    async fn delivered(&self, tenant: &TenantId, up_to: u64) -> Result<(), CacheError> {
        self.at("before delivered");
        self.inner.delivered(tenant, up_to).await
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "not a test: the process that the next test kills"]
async fn doomed_process() {
    let dir = std::env::var_os("DOOMED_DIR").unwrap();
    let address = std::env::var("DOOMED_TRACKER").unwrap().parse().unwrap();
    let moment = std::env::var("DOOMED_MOMENT").unwrap();
    let cache = Arc::new(Deadly { inner: cache(dir.as_ref()), moment });
    let workers = workers(dir.as_ref(), store(dir.as_ref()), cache, Dial(address));
    workers.sync(&acme(), &integration()).await.unwrap();
    panic!("survived");
}

#[tokio::test(flavor = "multi_thread")]
async fn m8_a_sync_killed_at_any_moment_loses_no_card_and_makes_none_twice() {
    let tracker = Roundup::start();
    let bob = BOB;
    for (issue, moment) in [(20, "before swap"), (23, "after swap"), (26, "before delivered")] {
        let dir = TempDir::new().unwrap();
        {
            let (_store, workers) = ready(dir.path(), &tracker).await;
            workers.sync(&acme(), &integration()).await.unwrap();
        }
        tracker.patch("alice", issue, &format!("{{\"assignedto\": \"{bob}\"}}"));
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "doomed_process"])
            .env("DOOMED_DIR", dir.path())
            .env("DOOMED_TRACKER", tracker.address.to_string())
            .env("DOOMED_MOMENT", moment)
            .output()
            .unwrap();
        assert_eq!(status.status.signal(), Some(6), "{moment}: {}", String::from_utf8_lossy(&status.stdout));
        let store = store(dir.path());
        let workers = workers(dir.path(), Arc::clone(&store), cache(dir.path()), Dial(tracker.address));
        workers.drain(&acme()).await.unwrap();
        if moment == "before swap" {
            assert!(titles(&workers, "bob").await.is_empty());
            workers.sync(&acme(), &integration()).await.unwrap();
        }
        assert_eq!(titles(&workers, "bob").await, [format!("Issue {issue} was assigned to you")], "{moment}");
        workers.drain(&acme()).await.unwrap();
        let all = Load::Scan { kind: Kind::Card, tenant: "acme".into(), after: None, limit: 100 };
        assert_eq!(store.load(all).await.unwrap().len(), 1, "{moment}");
    }
}
