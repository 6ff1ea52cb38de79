//! Random change sets against a map: the store and the model agree on outcomes, records, indexes and state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;
use sluice_control_domain::{
    AuditEntry, ChangeSet, Commit, Kind, Load, OutboxEntry, RecordKey, StateAudience, StateChange, StatePage, Store,
    Write,
};
use sluice_control_store_sqlite::SqliteStore;
use sluice_node_identity::{TenantId, UnixTime};

/// One change set, small enough to collide often: record ids 0..4, expected versions 0..4.
#[derive(Clone, Debug)]
struct Plan {
    expected: Vec<(u8, u64)>,
    puts: Vec<(u8, u8)>,
    deletes: Vec<u8>,
    state: Vec<(u8, Option<u8>)>,
    outbox: Vec<u8>,
    done: Vec<u8>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let few = 0..3_usize;
    (
        prop::collection::vec((0..4_u8, 0..4_u64), few.clone()),
        prop::collection::vec((0..4_u8, any::<u8>()), few.clone()),
        prop::collection::vec(0..4_u8, 0..2),
        prop::collection::vec((0..3_u8, prop::option::of(any::<u8>())), few.clone()),
        prop::collection::vec(0..5_u8, few.clone()),
        prop::collection::vec(0..5_u8, 0..2),
    )
        .prop_map(|(expected, puts, deletes, state, outbox, done)| Plan {
            expected,
            puts,
            deletes,
            state,
            outbox,
            done,
        })
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn key(id: u8) -> RecordKey {
    RecordKey { kind: Kind::Hub, tenant: "acme".into(), id: format!("h{id}") }
}

fn parity(value: u8) -> String {
    if value.is_multiple_of(2) { "even".into() } else { "odd".into() }
}

impl Plan {
    fn set(&self) -> ChangeSet {
        let put = |(id, value): &(u8, u8)| Write::Put {
            key: key(*id),
            body: json!(value),
            index: vec![("parity", parity(*value))],
        };
        let change = |(key, value): &(u8, Option<u8>)| StateChange {
            audience: StateAudience::Tenant,
            key: key.to_string(),
            value: value.map(|value| json!(value)),
        };
        let entry = |id: &u8| OutboxEntry { id: id.to_string(), topic: "t".into(), body: json!(id) };
        let audit = AuditEntry {
            at: UnixTime(0),
            actor: "a".into(),
            act: "b".into(),
            subject: "c".into(),
            detail: json!(null),
        };
        ChangeSet {
            expected: self.expected.iter().map(|(id, version)| (key(*id), *version)).collect(),
            writes: self.puts.iter().map(put).chain(self.deletes.iter().map(|id| Write::Delete(key(*id)))).collect(),
            state: self.state.iter().map(change).collect(),
            outbox: self.outbox.iter().map(entry).collect(),
            done: self.done.iter().map(ToString::to_string).collect(),
            ..ChangeSet::of(&tenant()).audit(audit)
        }
    }
}

#[derive(Default)]
struct Model {
    records: BTreeMap<u8, (u64, u8)>,
    log: Vec<(u8, Option<u8>)>,
    inserted: BTreeSet<u8>,
    queue: Vec<u8>,
    commits: u64,
}

impl Model {
    fn commit(&mut self, plan: &Plan) -> Commit {
        let version = |id: &u8| self.records.get(id).map_or(0, |(version, _)| *version);
        if plan.expected.iter().any(|(id, expected)| version(id) != *expected) {
            return Commit::Conflict;
        }
        for (id, value) in &plan.puts {
            let record = self.records.entry(*id).or_insert((0, 0));
            *record = (record.0 + 1, *value);
        }
        self.records.retain(|id, _| !plan.deletes.contains(id));
        self.log.extend(plan.state.iter().copied());
        for id in &plan.outbox {
            if self.inserted.insert(*id) {
                self.queue.push(*id);
            }
        }
        self.queue.retain(|id| !plan.done.contains(id));
        self.commits += 1;
        Commit::Done
    }

    fn live(&self) -> Vec<(String, serde_json::Value)> {
        let mut live = BTreeMap::new();
        for (key, value) in &self.log {
            match value {
                Some(value) => drop(live.insert(key.to_string(), json!(value))),
                None => drop(live.remove(&key.to_string())),
            }
        }
        live.into_iter().collect()
    }
}

async fn check(store: &SqliteStore, model: &Model) {
    let scan = Load::Scan { kind: Kind::Hub, tenant: "acme".into(), after: None, limit: 100 };
    let records =
        store.load(scan).await.unwrap().into_iter().map(|stored| (stored.key.id, stored.version, stored.body));
    let wanted = model.records.iter().map(|(id, (version, value))| (format!("h{id}"), *version, json!(value)));
    assert_eq!(records.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    for value in ["even", "odd"] {
        let by = Load::ByIndex { kind: Kind::Hub, tenant: None, name: "parity", value: value.into(), limit: 100 };
        let found = store.load(by).await.unwrap().into_iter().map(|stored| stored.key.id);
        let wanted =
            model.records.iter().filter(|(_, (_, body))| parity(*body) == value).map(|(id, _)| format!("h{id}"));
        assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }
    let seq = model.log.len() as u64;
    let snapshot = store.state(&tenant(), &[StateAudience::Tenant], None).await.unwrap();
    assert_eq!(snapshot, StatePage::Snapshot { seq, entries: model.live() });
    let half = model.log.len() / 2;
    let rest = model.log.iter().enumerate().skip(half);
    let rest =
        rest.map(|(at, (key, value))| (at as u64 + 1, key.to_string(), value.map(|value| json!(value)))).collect();
    assert_eq!(
        store.state(&tenant(), &[StateAudience::Tenant], Some(half as u64)).await.unwrap(),
        StatePage::Changes(rest)
    );
    let queue: Vec<_> = store.outbox("t", 100).await.unwrap().into_iter().map(|entry| entry.id).collect();
    assert_eq!(queue, model.queue.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(store.verify_audit(Some(&tenant()), None).await.unwrap().unwrap().seq, model.commits);
}

/// Polls once, so that the change set is queued; true when its answer is still to come.
async fn queued<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending()))
        .await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_store_does_what_a_map_does(plans in prop::collection::vec(plan(), 1..25), together in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        runtime.block_on(async {
            let store = SqliteStore::open(&dir.path().join("store.db"), &[7; 32]).unwrap();
            if together {
                // Asked all at once they share transactions; order is that of asking.
                let mut answers = Vec::new();
                for plan in &plans {
                    let mut commit = store.commit(plan.set());
                    assert!(queued(&mut commit).await, "answered before it was asked for");
                    answers.push(commit);
                }
                for (plan, answer) in plans.iter().zip(answers) {
                    assert_eq!(answer.await.unwrap(), model.commit(plan));
                }
            } else {
                for plan in &plans {
                    assert_eq!(store.commit(plan.set()).await.unwrap(), model.commit(plan));
                }
            }
            check(&store, &model).await;
            drop(store);
            let store = SqliteStore::open(&dir.path().join("store.db"), &[7; 32]).unwrap();
            check(&store, &model).await;
        });
    }
}
