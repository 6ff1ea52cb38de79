//! What nodes and control tell each other: feeds, documents, requests.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_connector_wire::Target;
use sluice_gateway_access::{GatewayDocument, Plan, Upstream};
use sluice_node_identity::{ConfigEnvelope, StateEvent, StateView, api};

use crate::{
    codec::{accepted, cuts, json, lines},
    sse::Events,
};

/// The state feed, one event a line, against a plain map; and envelopes of documents.
pub fn watch(data: &[u8]) {
    let (mut view, mut seq, mut model) = (StateView::default(), 0, BTreeMap::<String, Value>::new());
    for line in lines(data) {
        json::<ConfigEnvelope>(line);
        let Some(event) = json::<StateEvent>(line) else { continue };
        let before = view.clone();
        let fits = match &event {
            StateEvent::Snapshot { .. } => true,
            StateEvent::Delta { prev, .. } => *prev == seq,
            StateEvent::Beat { seq: beat } => *beat == seq,
        };
        match view.apply(event.clone()) {
            Err(gap) => {
                assert!(!fits && gap.have == seq);
                assert_eq!(view, before, "a gap changed the view");
                continue;
            }
            Ok(changed) => assert!(fits && changed == (view.snapshot_entries() != before.snapshot_entries())),
        }
        accepted();
        match event {
            StateEvent::Snapshot { seq: at, entries } => (seq, model) = (at, entries),
            StateEvent::Delta { seq: at, key, value: Some(value), .. } => {
                seq = at;
                model.insert(key, value);
            }
            StateEvent::Delta { seq: at, key, .. } => {
                seq = at;
                model.remove(&key);
            }
            StateEvent::Beat { .. } => {}
        }
        assert_eq!((view.seq(), view.snapshot_entries()), (seq, model.clone()));
        let mut restarted = StateView::default();
        restarted.apply(view.snapshot()).unwrap();
        assert_eq!(restarted, view, "a restart lost state");
    }
}

trait Entries {
    fn snapshot_entries(&self) -> BTreeMap<String, Value>;
}

impl Entries for StateView {
    fn snapshot_entries(&self) -> BTreeMap<String, Value> {
        self.under("").map(|(key, value)| (key.to_owned(), value.clone())).collect()
    }
}

/// Server-sent events: the same events however the bytes are cut, and never more out than in.
pub fn state_stream(data: &[u8]) {
    let whole = Events::default().take(data).unwrap();
    assert!(whole.iter().map(Vec::len).sum::<usize>() <= data.len());
    if !whole.is_empty() {
        accepted();
    }
    let mut bytewise = Events::default();
    let single: Vec<_> = data.chunks(1).flat_map(|byte| bytewise.take(byte).unwrap()).collect();
    assert_eq!(single, whole);
    for cut in cuts(data) {
        let mut events = Events::default();
        let (front, back) = data.split_at(cut);
        let pieces = [events.take(front).unwrap(), events.take(back).unwrap()].concat();
        assert_eq!(pieces, whole, "cut at {cut}");
    }
}

/// Bodies of the node API: survive a round trip, and do not show a code's secret to a log.
pub fn node_api(data: &[u8]) {
    if let Some(join) = json::<api::JoinRequest>(data) {
        let shown = format!("{join:?}");
        let elsewhere = [&join.csr, &join.nonce, &join.proof].iter().any(|text| text.contains(&join.secret));
        assert!(elsewhere || join.secret.len() < 12 || !shown.contains(&join.secret), "a join code's secret is shown");
    }
    let known = [
        json::<api::JoinRequest>(data).is_some(),
        json::<api::Nonce>(data).is_some(),
        json::<api::RejoinRequest>(data).is_some(),
        json::<api::Joined>(data).is_some(),
        json::<api::RenewRequest>(data).is_some(),
        json::<api::Chain>(data).is_some(),
        json::<api::HubFacingRequest>(data).is_some(),
        json::<api::GatewayKeys>(data).is_some(),
        json::<api::LiveTunnels>(data).is_some(),
        json::<api::VerifyFactor>(data).is_some(),
        json::<api::VerifiedUser>(data).is_some(),
        json::<api::CheckIns>(data).is_some(),
        json::<api::Refusal>(data).is_some(),
        json::<api::HubStanding>(data).is_some(),
        json::<api::ErrorBody>(data).is_some(),
    ];
    if known.contains(&true) {
        accepted();
    }
}

/// Documents of gateways: a plan has one owner for each host, shows no key, and dials only what connectors can read.
pub fn gateway_document(data: &[u8]) {
    let Some(document) = json::<GatewayDocument>(data) else { return };
    let key = document.session_key.0.clone();
    let shown = format!("{document:?}");
    let mut hosts: Vec<String> = document.apps.iter().map(|app| app.host.clone()).collect();
    hosts.push(document.login_host.clone());
    hosts.extend(document.splices.iter().map(|splice| splice.server_name.clone()));
    let Ok(plan) = Plan::try_from(document) else { return };
    assert!(!shown.contains(&key) && !format!("{plan:?}").contains(&key), "the cookie key is shown");
    accepted();
    for host in &hosts {
        let owners = [plan.app(host).is_some(), plan.splice(host).is_some(), plan.login_host() == host];
        assert_eq!(owners.iter().filter(|owns| **owns).count(), 1, "{host} has not exactly one owner");
        assert_eq!(plan.terminates(host), plan.splice(host).is_none());
    }
    for app in plan.apps() {
        if let Upstream::Resource { target, .. } = &app.upstream {
            assert!(target.parse::<Target>().is_ok(), "the gateway takes {target:?}, connectors do not");
        }
    }
}
