//! Lists under a policy key that the customer holds: proposed, signed or not, taken only as proposed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod desk;

use desk::{Desk, NOW, around, fleet, policy};
use sluice_connector_wire::{
    AllowList, AllowListKeeper, ConnectorDocument, ListRefused, PolicyKey, SignedAllowList, sign_proposed_list,
    sign_succession,
};
use sluice_control_domain::{
    Typed, Write,
    compile::{ALLOW_LIST_SECONDS, Content, DocumentRecord, Fleet, content},
    policy::{NotTaken, PROPOSAL_SECONDS, ProposalRecord, accept, propose},
};
use sluice_node_identity::UnixTime;

/// A connector whose list control has signed once, and the day on which the customer takes the key.
struct Held {
    desk: Desk,
    fleet: Fleet,
    customer: PolicyKey,
    keeper: AllowListKeeper,
    proposal: Option<Typed<ProposalRecord>>,
}

impl Held {
    fn new() -> Self {
        let (control, customer) = (policy(), policy());
        let mut fleet = fleet(&control);
        let keeper = AllowListKeeper::new(fleet.tenant.id.clone(), "dc-1".parse().unwrap(), control.thumbprint(), None);
        let step = sign_succession(&control, &customer.jwk()).unwrap();
        let mut desk = Desk::new(control, fleet.nodes[2].clone());
        desk.revise(&fleet, 0, NOW).unwrap();
        fleet.tenant.policy_key = customer.jwk();
        fleet.tenant.policy.customer = true;
        fleet.tenant.policy.succession = vec![step];
        let mut held = Self { desk, fleet, customer, keeper, proposal: None };
        held.offer(NOW).unwrap();
        held
    }

    fn content(&self, now: UnixTime) -> Content {
        content(&self.fleet, &self.desk.node.body, &around(), now)
    }

    fn document(&self) -> Option<&DocumentRecord> {
        self.desk.document.as_ref().map(|document| &document.body)
    }

    fn list(&self) -> SignedAllowList {
        let document = self.document().unwrap().envelope.document.clone();
        serde_json::from_value::<ConnectorDocument>(document).unwrap().allow_list
    }

    /// What the connector makes of its document.
    fn offer(&mut self, now: UnixTime) -> Result<(), ListRefused> {
        let list = self.list();
        self.keeper.offer(&list, now)
    }

    fn propose(&mut self, now: UnixTime) -> Option<ProposalRecord> {
        let content = self.content(now);
        let node = &self.desk.node.body;
        let (set, made) = propose(&self.fleet.tenant, node, self.document(), self.proposal.as_ref(), &content, now)?;
        if set.is_some() {
            let version = self.proposal.as_ref().map_or(0, |before| before.version) + 1;
            self.proposal = Some(Typed { version, body: made.clone() });
        }
        Some(made)
    }

    fn take(&mut self, jws: String, now: UnixTime) -> Result<AllowList, NotTaken> {
        let content = self.content(now);
        let proposal = self.proposal.clone().expect("a proposal");
        let document = self.desk.document.clone();
        let (set, list) =
            accept(&self.fleet.tenant, &self.desk.node, document.as_ref(), &proposal, &content, jws, now)?;
        assert!(matches!(&set.writes[1], Write::Delete(key) if key.id == "dc-1"));
        let Write::Put { body, .. } = &set.writes[2] else { panic!("a document") };
        let body = serde_json::from_value(body.clone()).unwrap();
        self.desk.document = Some(Typed { version: document.map_or(0, |document| document.version) + 1, body });
        self.proposal = None;
        Ok(list)
    }

    fn sign(&self, proposal: &ProposalRecord) -> String {
        sign_proposed_list(proposal.payload.as_bytes(), &self.customer).unwrap()
    }
}

#[test]
fn c5_a_customer_who_holds_the_key_signs_what_control_proposes_and_nothing_else_counts() {
    let mut held = Held::new();
    // Control's own compiling leaves the list as it is, whatever changes.
    let signed = held.list();
    held.fleet.resources[0].for_control = false;
    held.fleet.nodes[0].host = Some("moved.acme.test".into());
    let made = held.desk.follow(&held.fleet, NOW.plus(5)).expect("the gateway has moved");
    let document: ConnectorDocument = serde_json::from_value(made.envelope.document).unwrap();
    assert_eq!((document.gateways[0].host.as_str(), &document.allow_list), ("moved.acme.test", &signed));
    assert!(held.desk.follow(&held.fleet, NOW.plus(6)).is_none());

    let proposal = held.propose(NOW.plus(10)).expect("the list should change, and be signed by the new key");
    assert_eq!(held.propose(NOW.plus(11)).unwrap(), proposal, "what was shown can still be signed");
    let list = proposal.list().unwrap();
    let last = signed.unverified().unwrap();
    assert!(list.version > last.version && list.not_after == NOW.plus(10 + ALLOW_LIST_SECONDS));

    // Other bytes with his signature, and these bytes with another's.
    let wider = AllowList { version: list.version + 1, ..list.clone() };
    let wider = serde_json::to_vec(&wider).unwrap();
    assert_eq!(held.take(sign_proposed_list(&wider, &held.customer).unwrap(), NOW.plus(12)), Err(NotTaken::Other));
    let spaced = format!("{} ", proposal.payload);
    let spaced = sign_proposed_list(spaced.as_bytes(), &held.customer).unwrap();
    assert_eq!(held.take(spaced, NOW.plus(12)), Err(NotTaken::Other));
    let foreign = sign_proposed_list(proposal.payload.as_bytes(), &policy()).unwrap();
    assert_eq!(held.take(foreign, NOW.plus(12)), Err(NotTaken::Refused(ListRefused::BadSignature)));
    assert_eq!(held.take(String::new(), NOW.plus(12)), Err(NotTaken::Other));

    assert_eq!(held.take(held.sign(&proposal), NOW.plus(13)).unwrap(), list);
    held.offer(NOW.plus(13)).expect("the connector follows the succession");
    assert_eq!(held.keeper.current().unwrap().list(), &list);
    assert!(held.propose(NOW.plus(14)).is_none(), "nothing waits any more");
}

#[test]
fn c5_a_proposal_that_is_no_longer_what_should_be_is_not_taken() {
    let mut held = Held::new();
    let stale = held.propose(NOW).unwrap();
    let signed = held.sign(&stale);
    held.fleet.resources[0].for_users = false;
    assert_eq!(held.take(signed, NOW.plus(1)), Err(NotTaken::Other));
    let fresh = held.propose(NOW.plus(1)).unwrap();
    assert!(fresh.list().unwrap().version > stale.list().unwrap().version);
    held.take(held.sign(&fresh), NOW.plus(1)).unwrap();
}

#[test]
fn c5_lists_wait_for_a_signature_from_half_their_life_on_and_end_without_it() {
    let mut held = Held::new();
    let first = held.propose(NOW).unwrap();
    held.take(held.sign(&first), NOW).unwrap();
    held.offer(NOW).unwrap();
    assert!(held.propose(NOW.plus(ALLOW_LIST_SECONDS / 2 - 1)).is_none());
    let waiting = held.propose(NOW.plus(ALLOW_LIST_SECONDS / 2)).unwrap();
    // One that was written long ago would end too soon: it is written anew.
    let later = NOW.plus(ALLOW_LIST_SECONDS / 2 + PROPOSAL_SECONDS);
    let anew = held.propose(later).unwrap();
    assert!(anew.list().unwrap().not_after > waiting.list().unwrap().not_after);
    let late = NOW.plus(ALLOW_LIST_SECONDS + 1);
    assert!(held.desk.follow(&held.fleet, late).is_none(), "control cannot prolong it");
    assert_eq!(held.offer(late), Err(ListRefused::Expired(1)));
    let last = held.propose(late).unwrap();
    held.take(held.sign(&last), late).unwrap();
    held.offer(late).unwrap();
}

#[test]
fn c5_a_connector_has_no_document_before_the_customers_first_signature() {
    let mut held = Held::new();
    held.desk.document = None;
    assert!(held.desk.follow(&held.fleet, NOW).is_none());
    let proposal = held.propose(NOW).unwrap();
    held.take(held.sign(&proposal), NOW).unwrap();
    // It joined with the customer's key in its code: no succession is needed.
    let anchor = held.customer.thumbprint();
    let mut keeper = AllowListKeeper::new(held.fleet.tenant.id.clone(), "dc-1".parse().unwrap(), anchor, None);
    keeper.offer(&held.list(), NOW).unwrap();
}
