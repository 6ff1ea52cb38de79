//! The state view against a model that is told everything in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use sluice_node_identity::{Gap, StateEvent, StateView};

/// What happens to a change on its way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    IsLost,
    ComesTwice,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::IsLost), 1 => Just(Fate::ComesTwice)]
}

fn all(view: &StateView) -> BTreeMap<String, Value> {
    view.under("").map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

proptest! {
    /// Whatever is lost or doubled, a view that reports no gap is the truth, and a gap ends with a snapshot.
    #[test]
    fn view_without_a_gap_is_the_truth(changes in vec((0..5_u8, prop::option::of(0..9_i32), 1..4_u64, fate()), 0..60)) {
        let mut truth: BTreeMap<String, Value> = BTreeMap::new();
        let mut last = 0;
        let mut view = StateView::default();
        for (key, value, step, fate) in changes {
            let (key, value) = (format!("hub/{key}"), value.map(|value| json!(value)));
            let (prev, seq) = (last, last + step);
            last = seq;
            match &value {
                Some(value) => truth.insert(key.clone(), value.clone()),
                None => truth.remove(&key),
            };
            let before = view.clone();
            let event = StateEvent::Delta { prev, seq, key, value };
            let outcome = match fate {
                Fate::Arrives => view.apply(event),
                Fate::IsLost => view.apply(StateEvent::Beat { seq }),
                Fate::ComesTwice => view.apply(event.clone()).and_then(|_| view.apply(event)),
            };
            match outcome {
                Ok(changed) => prop_assert_eq!(changed, all(&before) != all(&view)),
                Err(Gap { have, sent }) => {
                    prop_assert_eq!(have, view.seq());
                    prop_assert_ne!(have, sent);
                    view.apply(StateEvent::Snapshot { seq, entries: truth.clone() }).unwrap();
                }
            }
            prop_assert_eq!(all(&view), truth.clone());
            prop_assert_eq!(view.seq(), last);
        }
        let mut copy = StateView::default();
        copy.apply(view.snapshot()).unwrap();
        prop_assert_eq!(copy, view);
    }

    #[test]
    fn gap_changes_nothing(prev in 1..9_u64, value in any::<i32>()) {
        let mut view = StateView::default();
        let delta = StateEvent::Delta { prev, seq: prev + 1, key: "hub/a".to_owned(), value: Some(json!(value)) };
        prop_assert_eq!(view.apply(delta), Err(Gap { have: 0, sent: prev }));
        prop_assert_eq!(view, StateView::default());
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), text in "\\{\"type\":\"(delta|beat|snapshot|x)\",.{0,40}\\}") {
        let _refused = serde_json::from_slice::<StateEvent>(&bytes);
        let _refused = serde_json::from_str::<StateEvent>(&text);
    }
}

#[test]
fn keys_under_a_prefix_come_in_order_and_alone() {
    let keys = ["hub/a", "hub/b", "hub0", "node/a", "hub"];
    let entries = keys.into_iter().map(|key| (key.to_owned(), json!(1))).collect();
    let mut view = StateView::default();
    view.apply(StateEvent::Snapshot { seq: 4, entries }).unwrap();
    assert_eq!(view.under("hub/").map(|(key, _)| key).collect::<Vec<_>>(), ["hub/a", "hub/b"]);
}

#[test]
fn events_with_unknown_members_are_refused() {
    let text = r#"{"type":"beat","seq":1,"extra":true}"#;
    assert!(serde_json::from_str::<StateEvent>(text).is_err());
}
