//! The tests every [`Store`] must pass, whatever it is made of. Each case uses tenants of its own, so that they may
//! share one store and run in any order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;
use sluice_node_identity::{NodeId, SiteId, TenantId, UnixTime};

use crate::{
    AuditEntry, ChangeSet, Commit, Kind, Load, OutboxEntry, PLATFORM, RecordKey, StateAudience, StateChange, StatePage,
    Store, Stored, Write,
};

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn key(tenant: &TenantId, id: &str) -> RecordKey {
    RecordKey { kind: Kind::Hub, tenant: tenant.to_string(), id: id.to_owned() }
}

fn put(key: &RecordKey, body: i64, index: &[(&'static str, &str)]) -> Write {
    let index = index.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Write::Put { key: key.clone(), body: json!({ "n": body }), index }
}

fn set(tenant: &TenantId, expected: Vec<(RecordKey, u64)>, writes: Vec<Write>) -> ChangeSet {
    ChangeSet { expected, writes, ..ChangeSet::of(tenant) }
}

async fn one<S: Store>(store: &S, key: &RecordKey) -> Option<Stored> {
    store.load(Load::Keys(vec![key.clone()])).await.unwrap().pop()
}

/// Runs every case.
pub async fn all<S: Store>(store: &S) {
    versions_and_conflicts(store).await;
    indexes_follow_records(store).await;
    scans_page_by_id(store).await;
    tenants_are_apart(store).await;
    a_conflict_writes_nothing(store).await;
    state_feed(store).await;
    state_audiences(store).await;
    outbox_ids_are_never_used_twice(store).await;
    leases_fence(store).await;
    audit_chains(store).await;
    commits_are_told(store).await;
}

/// 0 means "must not exist"; every write raises the version by one; a stale version conflicts.
pub async fn versions_and_conflicts<S: Store>(store: &S) {
    let t = tenant("suite-versions");
    let k = key(&t, "a");
    let commit = |version, body| store.commit(set(&t, vec![(k.clone(), version)], vec![put(&k, body, &[])]));
    assert_eq!(commit(1, 0).await.unwrap(), Commit::Conflict, "update of an absent record");
    assert_eq!(commit(0, 1).await.unwrap(), Commit::Done);
    assert_eq!(commit(0, 2).await.unwrap(), Commit::Conflict, "creation of an existing record");
    assert_eq!(commit(1, 3).await.unwrap(), Commit::Done);
    assert_eq!(commit(1, 4).await.unwrap(), Commit::Conflict, "stale version");
    let now = one(store, &k).await.unwrap();
    assert_eq!((now.version, now.body), (2, json!({ "n": 3 })));
    let gone = set(&t, vec![(k.clone(), 2)], vec![Write::Delete(k.clone())]);
    assert_eq!(store.commit(gone).await.unwrap(), Commit::Done);
    assert_eq!(one(store, &k).await, None);
}

/// Index entries are those of the newest write and vanish with the record.
pub async fn indexes_follow_records<S: Store>(store: &S) {
    let t = tenant("suite-index");
    let (a, b) = (key(&t, "a"), key(&t, "b"));
    let by = async |value: &str, within: Option<String>| -> Vec<String> {
        let what = Load::ByIndex { kind: Kind::Hub, tenant: within, name: "suite", value: value.to_owned(), limit: 10 };
        store.load(what).await.unwrap().into_iter().map(|stored| stored.key.id).collect()
    };
    let writes = vec![put(&a, 1, &[("suite", "ix-x")]), put(&b, 2, &[("suite", "ix-x"), ("suite", "ix-y")])];
    store.commit(set(&t, vec![], writes)).await.unwrap();
    assert_eq!(by("ix-x", None).await, ["a", "b"]);
    assert_eq!(by("ix-y", Some(t.to_string())).await, ["b"]);
    assert_eq!(by("ix-x", Some("suite-other".to_owned())).await, [""; 0]);
    store.commit(set(&t, vec![], vec![put(&a, 1, &[("suite", "ix-z")]), Write::Delete(b)])).await.unwrap();
    assert_eq!(by("ix-x", None).await, [""; 0]);
    assert_eq!(by("ix-z", None).await, ["a"]);
}

/// Scans give a tenant's records by id, page by page.
pub async fn scans_page_by_id<S: Store>(store: &S) {
    let t = tenant("suite-scan");
    let writes = ["c", "a", "b"].iter().map(|id| put(&key(&t, id), 0, &[])).collect();
    store.commit(set(&t, vec![], writes)).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let what = Load::Scan { kind: Kind::Hub, tenant: t.to_string(), after: after.clone(), limit: 2 };
        let page = store.load(what).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.id.clone());
        seen.extend(page.into_iter().map(|stored| stored.key.id));
    }
    assert_eq!(seen, ["a", "b", "c"]);
}

/// The same id in two tenants, or under two kinds, is two records.
pub async fn tenants_are_apart<S: Store>(store: &S) {
    let (t, u) = (tenant("suite-t"), tenant("suite-u"));
    let other_kind = RecordKey { kind: Kind::User, ..key(&t, "x") };
    store.commit(set(&t, vec![], vec![put(&key(&t, "x"), 1, &[])])).await.unwrap();
    assert_eq!(one(store, &key(&u, "x")).await, None);
    assert_eq!(one(store, &other_kind).await, None);
    assert_eq!(one(store, &RecordKey { tenant: PLATFORM.to_owned(), ..key(&t, "x") }).await, None);
}

/// A conflict leaves no record, state change, outbox entry or audit entry behind.
pub async fn a_conflict_writes_nothing<S: Store>(store: &S) {
    let t = tenant("suite-nothing");
    let (a, b) = (key(&t, "a"), key(&t, "b"));
    store.commit(set(&t, vec![], vec![put(&a, 1, &[])])).await.unwrap();
    let bad = ChangeSet {
        state: vec![change(StateAudience::Tenant, "k", Some(1))],
        outbox: vec![OutboxEntry { id: "suite-nothing-1".into(), topic: "suite-nothing".into(), body: json!(1) }],
        audit: vec![entry("suite.nothing")],
        ..set(&t, vec![(a.clone(), 1), (b.clone(), 7)], vec![put(&a, 2, &[]), put(&b, 2, &[])])
    };
    assert_eq!(store.commit(bad).await.unwrap(), Commit::Conflict);
    assert_eq!(one(store, &a).await.unwrap().version, 1);
    assert_eq!(one(store, &b).await, None);
    assert_eq!(store.outbox("suite-nothing", 10).await.unwrap(), []);
    assert_eq!(store.audit(Some(&t), 0, 10).await.unwrap(), []);
    let page = store.state(&t, &[StateAudience::Tenant], None).await.unwrap();
    assert_eq!(page, StatePage::Snapshot { seq: 0, entries: vec![] });
}

fn change(audience: StateAudience, key: &str, value: Option<i64>) -> StateChange {
    StateChange { audience, key: key.to_owned(), value: value.map(|value| json!(value)) }
}

/// Numbers grow by one per change; unknown numbers give a snapshot of the live keys.
pub async fn state_feed<S: Store>(store: &S) {
    let t = tenant("suite-state");
    let all = [StateAudience::Tenant];
    for (key, value) in [("a", Some(1)), ("b", Some(2)), ("a", None)] {
        store.commit(ChangeSet::of(&t).state(change(StateAudience::Tenant, key, value))).await.unwrap();
    }
    let StatePage::Changes(changes) = store.state(&t, &all, Some(1)).await.unwrap() else { panic!("changes") };
    assert_eq!(changes, [(2, "b".to_owned(), Some(json!(2))), (3, "a".to_owned(), None)]);
    assert_eq!(store.state(&t, &all, Some(3)).await.unwrap(), StatePage::Changes(vec![]));
    let snapshot = StatePage::Snapshot { seq: 3, entries: vec![("b".to_owned(), json!(2))] };
    assert_eq!(store.state(&t, &all, None).await.unwrap(), snapshot);
    assert_eq!(store.state(&t, &all, Some(4)).await.unwrap(), snapshot, "a number from the future");
}

/// A node sees its tenant's, its site's and its own changes, nobody else's.
pub async fn state_audiences<S: Store>(store: &S) {
    let t = tenant("suite-audience");
    let site = |name: &str| StateAudience::Site(name.parse::<SiteId>().unwrap());
    let node = |name: &str| StateAudience::Node(name.parse::<NodeId>().unwrap());
    let set = ChangeSet::of(&t)
        .state(change(StateAudience::Tenant, "t", Some(1)))
        .state(change(site("one"), "s1", Some(1)))
        .state(change(site("two"), "s2", Some(1)))
        .state(change(node("one"), "n1", Some(1)));
    store.commit(set).await.unwrap();
    let seen = async |audiences: &[StateAudience]| -> (Vec<String>, Vec<String>) {
        let StatePage::Changes(changes) = store.state(&t, audiences, Some(0)).await.unwrap() else { panic!() };
        let StatePage::Snapshot { entries, .. } = store.state(&t, audiences, None).await.unwrap() else { panic!() };
        let mut changed: Vec<_> = changes.into_iter().map(|(_, key, _)| key).collect();
        changed.sort();
        (changed, entries.into_iter().map(|(key, _)| key).collect())
    };
    let want = |keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        (keys.clone(), keys)
    };
    assert_eq!(seen(&[StateAudience::Tenant, site("one")]).await, want(&["s1", "t"]));
    assert_eq!(seen(&[StateAudience::Tenant, site("two"), node("one")]).await, want(&["n1", "s2", "t"]));
    assert_eq!(seen(&[]).await, want(&[]));
}

/// An outbox id that was ever inserted is never inserted again, done or not.
pub async fn outbox_ids_are_never_used_twice<S: Store>(store: &S) {
    let t = tenant("suite-outbox");
    let entry = |id: &str, n: i64| OutboxEntry { id: id.into(), topic: "suite-outbox".into(), body: json!(n) };
    let add = |entries: Vec<OutboxEntry>| store.commit(ChangeSet { outbox: entries, ..ChangeSet::of(&t) });
    let done = |id: &str| store.commit(ChangeSet { done: vec![id.to_owned()], ..ChangeSet::of(&t) });
    add(vec![entry("suite-o1", 1), entry("suite-o2", 2)]).await.unwrap();
    add(vec![entry("suite-o1", 9)]).await.unwrap();
    assert_eq!(store.outbox("suite-outbox", 10).await.unwrap(), [entry("suite-o1", 1), entry("suite-o2", 2)]);
    assert_eq!(store.outbox("suite-outbox", 1).await.unwrap().len(), 1);
    done("suite-o1").await.unwrap();
    add(vec![entry("suite-o1", 9)]).await.unwrap();
    assert_eq!(store.outbox("suite-outbox", 10).await.unwrap(), [entry("suite-o2", 2)]);
}

/// One holder at a time; a new term has a higher token.
pub async fn leases_fence<S: Store>(store: &S) {
    let lease = |holder, now, until| store.lease("suite-job", holder, UnixTime(now), UnixTime(until));
    let first = lease("a", 100, 110).await.unwrap().unwrap();
    assert_eq!(lease("b", 105, 120).await.unwrap(), None);
    assert_eq!(lease("a", 105, 120).await.unwrap(), Some(first), "renewal keeps the token");
    let second = lease("b", 121, 130).await.unwrap().unwrap();
    assert!(second > first);
    assert!(lease("b", 131, 140).await.unwrap().unwrap() > second, "a term that ran out is not continued");
}

fn entry(act: &str) -> AuditEntry {
    AuditEntry {
        at: UnixTime(1),
        actor: "user/ann".into(),
        act: act.into(),
        subject: "node/gw".into(),
        detail: json!({ "x": [1, "two"] }),
    }
}

/// One gapless chain per tenant and one of the platform's.
pub async fn audit_chains<S: Store>(store: &S) {
    let (t, u) = (tenant("suite-audit"), tenant("suite-audit-other"));
    store.commit(ChangeSet::of(&t).audit(entry("one")).audit(entry("two"))).await.unwrap();
    store.commit(ChangeSet::of(&u).audit(entry("one"))).await.unwrap();
    let chain = store.audit(Some(&t), 0, 10).await.unwrap();
    assert_eq!(
        chain.iter().map(|(seq, entry, _)| (*seq, entry.act.as_str())).collect::<Vec<_>>(),
        [(1, "one"), (2, "two")]
    );
    let other = store.audit(Some(&u), 0, 10).await.unwrap();
    assert_eq!(chain[0].1, other[0].1);
    assert_ne!(chain[0].2, other[0].2, "the same entry in another chain has another hash");
    assert_eq!(store.audit(Some(&t), 1, 10).await.unwrap().len(), 1);
    let before = store.audit(None, 0, 1_000).await.unwrap().len();
    store.commit(ChangeSet::default().audit(entry("platform"))).await.unwrap();
    assert_eq!(store.audit(None, 0, 1_000).await.unwrap().len(), before + 1);
}

/// `changed` returns at once when behind, and a conflict is no commit.
pub async fn commits_are_told<S: Store>(store: &S) {
    let t = tenant("suite-changed");
    store.commit(set(&t, vec![], vec![put(&key(&t, "a"), 0, &[])])).await.unwrap();
    let seen = store.changed(0).await;
    assert!(seen > 0);
    let conflict = set(&t, vec![(key(&t, "a"), 9)], vec![]);
    assert_eq!(store.commit(conflict).await.unwrap(), Commit::Conflict);
    store.commit(set(&t, vec![], vec![put(&key(&t, "a"), 1, &[])])).await.unwrap();
    assert_eq!(store.changed(seen).await, seen + 1);
}
