//! The cache by itself: what a swap believes, what it tells the feed, and whose it is.
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

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use bench::{Keys, ROUNDUP, acme, cache, roundup};
use proptest::prelude::*;
use sluice_control_feed::{FeedMessage, People, Person};
use sluice_control_sync::{Cell, Declaration, Key, Row};
use sluice_control_workers::{
    Cache, CacheError, Changed, KeyError, RowEdit, SqliteCache, Swap, Target, TenantKeys, backup_cache,
};
use sluice_node_identity::{TenantId, UnixTime};
use tempfile::TempDir;

const NOW: UnixTime = UnixTime(1_795_000_000);

fn target(declaration: &str) -> Target {
    let declaration = Arc::new(Declaration::parse(declaration).unwrap());
    Target { tenant: acme(), integration: roundup(), declaration }
}

fn person(name: &str) -> Person {
    Person { user: name.parse().unwrap(), email: format!("{name}@x") }
}

fn people(names: &[&str]) -> Arc<People> {
    Arc::new(People::new(names.iter().map(|name| person(name))))
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn user(id: i64, name: &str) -> (Key, Row) {
    (id.to_string(), Row(vec![Cell::Integer(id), text(name), text(&format!("{name}@x"))]))
}

fn issue(id: i64, status: &str, day: &str, assigned: Option<i64>) -> (Key, Row) {
    let assigned = assigned.map_or(Cell::Null, Cell::Integer);
    (id.to_string(), Row(vec![Cell::Integer(id), text("title"), text(status), text(day), assigned]))
}

async fn stage(cache: &dyn Cache, target: &Target, run: &str, users: &[(Key, Row)], issues: &[(Key, Row)]) {
    cache.begin(target, run).await.unwrap();
    cache.stage(target, run, 0, users.to_vec()).await.unwrap();
    cache.stage(target, run, 1, issues.to_vec()).await.unwrap();
}

async fn swap(cache: &dyn Cache, target: &Target, run: &str, people: Arc<People>) -> Result<Changed, CacheError> {
    let since = vec![None, Some("2026-08-20".to_owned())];
    cache.swap(Swap { target: target.clone(), run: run.to_owned(), since, people, now: NOW }).await
}

async fn sync(cache: &dyn Cache, users: &[(Key, Row)], issues: &[(Key, Row)]) -> Result<Changed, CacheError> {
    let target = target(ROUNDUP);
    stage(cache, &target, "run", users, issues).await;
    swap(cache, &target, "run", people(&["bob", "alice"])).await
}

async fn told(cache: &dyn Cache) -> Vec<String> {
    let messages = cache.messages(&acme(), 1_000).await.unwrap();
    if let Some((last, ..)) = messages.last() {
        cache.delivered(&acme(), *last).await.unwrap();
    }
    let short = |message| match message {
        FeedMessage::Open(card) => format!("open {} {}", card.user, card.text.key),
        FeedMessage::Close { reason, .. } => format!("close: {reason}"),
    };
    messages.into_iter().map(|(_, _, message)| short(message)).collect()
}

#[tokio::test]
async fn m6_a_baseline_is_silent_and_a_full_sync_replaces() {
    let dir = TempDir::new().unwrap();
    let cache = cache(dir.path());
    let users = [user(1, "bob"), user(2, "alice")];
    let first = sync(cache.as_ref(), &users, &[issue(1, "unread", "2026-11-01", Some(1))]).await.unwrap();
    assert_eq!((first.rows, first.changed, first.cards), (3, 0, 0));
    let issues = [issue(1, "unread", "2026-11-02", Some(2)), issue(2, "unread", "2026-11-02", Some(1))];
    let second = sync(cache.as_ref(), &users, &issues).await.unwrap();
    assert_eq!((second.rows, second.changed, second.cards), (4, 2, 2));
    assert_eq!(told(cache.as_ref()).await, ["open alice 1", "open bob 2"]);
    let third = sync(cache.as_ref(), &users, &issues).await.unwrap();
    assert_eq!((third.changed, third.cards, third.closed), (0, 0, 0));
    let rows = cache.rows(&target(ROUNDUP), 1, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row["assignedto"].as_i64()).collect::<Vec<_>>(), [Some(2), Some(1)]);
}

#[tokio::test]
async fn m6_an_empty_fetch_deletes_nothing_and_says_so() {
    let dir = TempDir::new().unwrap();
    let cache = cache(dir.path());
    let users = [user(1, "bob")];
    let issues: Vec<_> = (0..40).map(|id| issue(id, "unread", "2026-11-01", None)).collect();
    sync(cache.as_ref(), &users, &issues).await.unwrap();
    for kept in [0, 1, 19] {
        let refused = sync(cache.as_ref(), &users, &issues[..kept]).await.unwrap_err();
        assert!(matches!(&refused, CacheError::Incredible { table, .. } if table == "issue"), "{refused}");
        assert_eq!(cache.rows(&target(ROUNDUP), 1, 100).await.unwrap().len(), 40);
    }
    assert_eq!(sync(cache.as_ref(), &users, &issues[..20]).await.unwrap().changed, 20);
    assert!(told(cache.as_ref()).await.is_empty());
}

#[tokio::test]
async fn m6_rows_that_leave_the_window_are_no_mass_deletion() {
    let dir = TempDir::new().unwrap();
    let cache = cache(dir.path());
    let old: Vec<_> = (0..40).map(|id| issue(id, "unread", "2026-08-19.23:59:59", None)).collect();
    let new = [issue(99, "unread", "2026-08-20.00:00:00", None)];
    sync(cache.as_ref(), &[], &[old.as_slice(), new.as_slice()].concat()).await.unwrap();
    let report = sync(cache.as_ref(), &[], &new).await.unwrap();
    assert_eq!((report.rows, report.changed), (1, 0));
    assert_eq!(cache.rows(&target(ROUNDUP), 1, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_sync_that_was_overtaken_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (cache, target) = (cache(dir.path()), target(ROUNDUP));
    stage(cache.as_ref(), &target, "slow", &[user(1, "old")], &[]).await;
    stage(cache.as_ref(), &target, "fast", &[user(1, "bob")], &[]).await;
    let late = cache.stage(&target, "slow", 0, vec![user(2, "old")]).await;
    assert_eq!(late, Err(CacheError::Overtaken));
    assert_eq!(swap(cache.as_ref(), &target, "slow", people(&[])).await, Err(CacheError::Overtaken));
    assert_eq!(swap(cache.as_ref(), &target, "fast", people(&[])).await.unwrap().rows, 1);
    assert_eq!(cache.rows(&target, 0, 10).await.unwrap()[0]["username"], "bob");
}

#[tokio::test]
async fn m9_cards_close_when_a_foreign_row_or_an_account_changes() {
    let dir = TempDir::new().unwrap();
    let cache = cache(dir.path());
    let issues = |to| [issue(1, "unread", "2026-11-01", to), issue(2, "unread", "2026-11-01", to)];
    sync(cache.as_ref(), &[user(1, "bob")], &issues(None)).await.unwrap();
    sync(cache.as_ref(), &[user(1, "bob")], &issues(Some(1))).await.unwrap();
    assert_eq!(told(cache.as_ref()).await, ["open bob 1", "open bob 2"]);
    let seen = |who: &'static str| {
        let cache = Arc::clone(&cache);
        async move { cache.visible(&target(ROUNDUP), &person(who), vec![("issue".into(), "1".into())]).await.unwrap() }
    };
    assert_eq!((seen("bob").await, seen("alice").await), (vec![true], vec![false]));
    // User 1 of the system of record now has alice's address: the issues' own rows did not change.
    sync(cache.as_ref(), &[user(1, "alice")], &issues(Some(1))).await.unwrap();
    let somebody = "close: it is somebody else's now";
    assert_eq!(told(cache.as_ref()).await, [somebody, somebody]);
    assert_eq!((seen("bob").await, seen("alice").await), (vec![false], vec![true]));
    sync(cache.as_ref(), &[user(1, "bob")], &[issue(1, "unread", "2026-11-01", None)]).await.unwrap();
    sync(cache.as_ref(), &[user(1, "bob")], &[issue(1, "unread", "2026-11-01", Some(1))]).await.unwrap();
    told(cache.as_ref()).await;
    stage(cache.as_ref(), &target(ROUNDUP), "x", &[user(1, "bob")], &[issue(1, "unread", "2026-11-01", Some(1))]).await;
    swap(cache.as_ref(), &target(ROUNDUP), "x", people(&["alice"])).await.unwrap();
    assert_eq!(told(cache.as_ref()).await, ["close: the account is disabled"]);
}

#[tokio::test]
async fn a_changed_declaration_makes_a_new_baseline() {
    let dir = TempDir::new().unwrap();
    let cache = cache(dir.path());
    let users = [user(1, "bob")];
    sync(cache.as_ref(), &users, &[issue(1, "unread", "2026-11-01", None)]).await.unwrap();
    let other = target(&ROUNDUP.replace("days = 90", "days = 365"));
    let more = [issue(1, "unread", "2026-11-01", None), issue(2, "unread", "2026-01-01", Some(1))];
    stage(cache.as_ref(), &other, "run", &users, &more).await;
    let report = swap(cache.as_ref(), &other, "run", people(&["bob"])).await.unwrap();
    assert_eq!((report.rows, report.changed, report.cards), (3, 0, 0), "more history is no news");
}

#[tokio::test]
async fn u3_a_row_read_back_is_not_undone_by_a_sync_under_way() {
    let dir = TempDir::new().unwrap();
    let (cache, target) = (cache(dir.path()), target(ROUNDUP));
    let users = [user(1, "bob")];
    sync(cache.as_ref(), &users, &[issue(1, "unread", "2026-11-01", None)]).await.unwrap();
    sync(cache.as_ref(), &users, &[issue(1, "unread", "2026-11-01", Some(1))]).await.unwrap();
    let messages = cache.messages(&acme(), 10).await.unwrap();
    let FeedMessage::Open(card) = messages[0].2.clone() else { panic!() };
    told(cache.as_ref()).await;
    stage(cache.as_ref(), &target, "run", &users, &[issue(1, "unread", "2026-11-01", Some(1))]).await;
    let (key, row) = issue(1, "resolved", "2026-11-03", Some(1));
    let edit = RowEdit {
        target: target.clone(),
        table: 1,
        key,
        row: Some(row),
        close: Some((card.id, "resolve by bob".into())),
        people: people(&["bob"]),
        now: NOW,
    };
    assert_eq!(cache.edit(edit.clone()).await.unwrap().closed, 1);
    assert_eq!(told(cache.as_ref()).await, ["close: resolve by bob"]);
    assert_eq!(cache.edit(edit).await.unwrap(), Changed::default(), "twice is once");
    let report = swap(cache.as_ref(), &target, "run", people(&["bob"])).await.unwrap();
    assert_eq!((report.changed, report.cards), (0, 0));
    assert_eq!(cache.rows(&target, 1, 10).await.unwrap()[0]["status"], "resolved");
}

/// A keystore after a theft: every key is another.
struct OtherKeys;

impl TenantKeys for OtherKeys {
    fn derive(&self, _: &TenantId, _: &str) -> Result<[u8; 32], KeyError> {
        Ok([9; 32])
    }
}

#[tokio::test]
async fn t1_a_tenants_file_is_encrypted_its_own_and_opens_under_no_other_key() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("cache");
    {
        let cache = cache(dir.path());
        sync(cache.as_ref(), &[user(1, "bob")], &[]).await.unwrap();
        let other = Target { tenant: "other".parse().unwrap(), ..target(ROUNDUP) };
        assert!(cache.rows(&other, 0, 10).await.unwrap().is_empty(), "another tenant's file is another file");
        assert!(backup_cache(&folder, &acme(), &Keys, &dir.path().join("copy.db")).unwrap());
        assert!(backup_cache(&folder, &acme(), &Keys, &dir.path().join("copy.db")).is_err());
        assert!(!backup_cache(&folder, &"none".parse().unwrap(), &Keys, &dir.path().join("no.db")).unwrap());
    }
    for file in [folder.join("acme.db"), dir.path().join("copy.db")] {
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.len() > 4_096 && !bytes.starts_with(b"SQLite format 3"));
        assert!(!bytes.windows(5).any(|window| window == b"bob@x"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7077, 0);
    }
    let stolen = SqliteCache::new(&folder, Arc::new(OtherKeys)).unwrap();
    assert!(stolen.rows(&target(ROUNDUP), 0, 10).await.is_err());
    let restored = TempDir::new().unwrap();
    fs::create_dir(restored.path().join("cache")).unwrap();
    fs::set_permissions(restored.path().join("cache"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(dir.path().join("copy.db"), restored.path().join("cache/acme.db")).unwrap();
    assert_eq!(cache(restored.path()).rows(&target(ROUNDUP), 0, 10).await.unwrap().len(), 1);
}

#[test]
fn a_folder_open_to_others_is_refused() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(SqliteCache::new(Path::new(dir.path()), Arc::new(Keys)).is_err());
}

type Model = BTreeMap<i64, (bool, Option<i64>)>;

fn model() -> impl Strategy<Value = Model> {
    prop::collection::btree_map(1..9_i64, (any::<bool>(), prop::option::of(1..4_i64)), 0..9)
}

fn issues(model: &Model) -> Vec<(Key, Row)> {
    let status = |done: bool| if done { "resolved" } else { "unread" };
    model.iter().map(|(id, (done, to))| issue(*id, status(*done), "2026-11-01", *to)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A sequence of syncs against a model that keeps tables as maps: rows, and who has which cards open.
    #[test]
    fn m8_m9_swaps_agree_with_their_model(tables in prop::collection::vec(model(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        let cache = cache(dir.path());
        let text = ROUNDUP.replace("[[table]]\nname = \"issue\"", "[[table]]\nmax_deleted_percent = 100\nname = \"issue\"");
        let target = target(&text);
        let users = [user(1, "bob"), user(2, "alice"), user(3, "stranger")];
        let name = |id: i64| match id { 1 => Some("bob"), 2 => Some("alice"), _ => None };
        let (mut open, mut seen): (BTreeMap<String, String>, BTreeMap<String, String>) = Default::default();
        let mut before: Option<Model> = None;
        for table in tables {
            let messages = runtime.block_on(async {
                stage(cache.as_ref(), &target, "run", &users, &issues(&table)).await;
                swap(cache.as_ref(), &target, "run", people(&["bob", "alice"])).await.unwrap();
                let messages = cache.messages(&acme(), 1_000).await.unwrap();
                if let Some((last, ..)) = messages.last() {
                    cache.delivered(&acme(), *last).await.unwrap();
                }
                messages
            });
            open.retain(|key, who| {
                table.get(&key.parse().unwrap()).is_some_and(|(done, to)| !done && to.and_then(name) == Some(who))
            });
            if let Some(before) = &before {
                for (id, (done, to)) in &table {
                    let was = before.get(id).and_then(|(_, to)| *to);
                    if let (false, true, Some(who)) = (*done, was != *to, to.and_then(name)) {
                        open.insert(id.to_string(), who.to_owned());
                    }
                }
            }
            for (_, _, message) in messages {
                match message {
                    FeedMessage::Open(card) => { seen.insert(card.id, format!("{} {}", card.text.key, card.user)); }
                    FeedMessage::Close { id, .. } => { prop_assert!(seen.remove(&id).is_some(), "closed once"); }
                }
            }
            let mut cards: Vec<String> = seen.values().cloned().collect();
            cards.sort();
            let expected: Vec<String> = open.iter().map(|(key, who)| format!("{key} {who}")).collect();
            prop_assert_eq!(cards, expected);
            let rows = runtime.block_on(cache.rows(&target, 1, 100)).unwrap();
            prop_assert_eq!(rows.len(), table.len());
            before = Some(table);
        }
    }
}
