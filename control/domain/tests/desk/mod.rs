//! A tenant's fleet, and documents compiled for it as control does it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; each file uses a part"
)]

use serde_json::json;
use sluice_connector_wire::{ClassPair, PolicyKey, TokenSigner};
use sluice_control_domain::{
    AppPlace, AppRecord, ChangeSet, GatewayRecord, NodeRecord, ResourceRecord, Tenant, Typed, Write,
    compile::{DocumentRecord, Fleet, Surroundings, content, revise},
    policy::PolicyHolding,
};
use sluice_node_identity::{Binding, BoundKey, CodeBinding, Fingerprint, Role, UnixTime, api::GatewayKeys};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

pub(crate) fn policy() -> PolicyKey {
    PolicyKey::from_pkcs8(&rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap()
}

pub(crate) fn node(id: &str, role: Role, site: &str) -> NodeRecord {
    let key = Fingerprint::of(id.as_bytes());
    let bound = BoundKey { key: key.clone(), csr: key.clone(), generation: 1, certificate: String::new() };
    let gateway = role == Role::Gateway;
    NodeRecord {
        tenant: "acme".parse().unwrap(),
        id: id.parse().unwrap(),
        role,
        site: site.parse().unwrap(),
        code: CodeBinding { digest: key, valid_until: NOW, bound: None, alarmed: false },
        binding: Some(Binding::joined(bound)),
        config: None,
        refused: None,
        addresses: if gateway { vec!["192.0.2.1".parse().unwrap()] } else { vec![] },
        host: gateway.then(|| format!("{id}.acme.test")),
        created: NOW,
    }
}

pub(crate) fn ed25519() -> Vec<u8> {
    aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
        .unwrap()
        .as_ref()
        .to_vec()
}

pub(crate) fn fleet(policy: &PolicyKey) -> Fleet {
    let tenant = Tenant {
        id: "acme".parse().unwrap(),
        display_name: "Acme".into(),
        login_host: "login.acme.test".into(),
        est_host: "est.acme.test".into(),
        checkin_host: "checkin.acme.test".into(),
        feed_host: "feed.acme.test".into(),
        hub_root: String::new(),
        policy_key: policy.jwk(),
        policy: PolicyHolding::default(),
        policy_epoch: 1,
        classes: vec![],
        qos: sluice_qos_plan::QosPolicy::default(),
        created: NOW,
    };
    let caller = TokenSigner::gateway("gw-1", &ed25519()).unwrap().jwk();
    let keys = GatewayKeys { caller, assertion: policy.jwk() };
    let resource = ResourceRecord {
        tenant: tenant.id.clone(),
        id: "tracker".parse().unwrap(),
        site: "dc-1".parse().unwrap(),
        target: "tcp:tracker.internal:8917".parse().unwrap(),
        networks: vec![],
        for_users: true,
        for_control: true,
        class: ClassPair::Interactive,
        hosts: None,
        ports: None,
        times: vec![],
    };
    let app = AppRecord {
        tenant: tenant.id.clone(),
        id: "tracker".parse().unwrap(),
        display_name: "Tracker".into(),
        host: "tracker.acme.test".into(),
        place: AppPlace::Resource { resource: resource.id.clone(), host_header: None },
        groups: vec!["staff".into()],
        user_header: None,
    };
    Fleet {
        nodes: vec![
            node("gw-1", Role::Gateway, "dmz-1"),
            node("edge-1", Role::Edge, "branch-1"),
            node("dc-1", Role::Connector, "dc-1"),
        ],
        gateways: vec![GatewayRecord { tenant: tenant.id.clone(), id: "gw-1".parse().unwrap(), keys }],
        apps: vec![app],
        resources: vec![resource],
        exceptions: vec![],
        tenant,
    }
}

pub(crate) fn around() -> Surroundings {
    Surroundings {
        trust_domain: "sluice.test".parse().unwrap(),
        node_host: "node.sluice.test".into(),
        console_host: "console.sluice.test".into(),
        pages_host: "pages.sluice.test".into(),
        address: "192.0.2.10:8443".into(),
        caller: json!(null),
    }
}

/// A node, what was compiled for it last, and a commit as a store does it.
pub(crate) struct Desk {
    pub(crate) policy: PolicyKey,
    pub(crate) node: Typed<NodeRecord>,
    pub(crate) document: Option<Typed<DocumentRecord>>,
}

impl Desk {
    pub(crate) fn new(policy: PolicyKey, node: NodeRecord) -> Self {
        Self { policy, node: Typed { version: 1, body: node }, document: None }
    }

    pub(crate) fn revise(&mut self, fleet: &Fleet, seen: u64, now: UnixTime) -> Option<DocumentRecord> {
        let content = content(fleet, &self.node.body, &around(), now);
        let (set, made) =
            revise(&self.node, self.document.as_ref(), content, seen, Some(&self.policy), now).unwrap()?;
        self.commit(set, &made);
        Some(made)
    }

    /// As [`Self::revise`], without the policy key.
    pub(crate) fn follow(&mut self, fleet: &Fleet, now: UnixTime) -> Option<DocumentRecord> {
        let content = content(fleet, &self.node.body, &around(), now);
        let (set, made) = revise(&self.node, self.document.as_ref(), content, 0, None, now).unwrap()?;
        self.commit(set, &made);
        Some(made)
    }

    pub(crate) fn commit(&mut self, set: ChangeSet, made: &DocumentRecord) {
        let before = self.document.as_ref().map_or(0, |document| document.version);
        assert_eq!(set.expected[1].1, before);
        let Write::Put { body, .. } = &set.writes[0] else { panic!("a write") };
        let body = serde_json::from_value(body.clone()).unwrap();
        self.node = Typed { version: self.node.version + 1, body };
        self.document = Some(Typed { version: before + 1, body: made.clone() });
    }
}
