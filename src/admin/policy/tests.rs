//! Signing at the customer's: control is not believed, whatever it says was signed before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use sluice_connector_wire::{AllowList, AllowRule, PolicyKey, sign_allow_list};
use sluice_control_server::admin_api::PendingList;
use sluice_node_identity::UnixTime;

use super::{
    key,
    own::OwnKey,
    sign::{self, Standing},
};

const DAY: u64 = 86_400;

fn list(version: u64, targets: &[&str]) -> AllowList {
    let rule = |name: &&str| {
        let target = format!("tcp:{name}.test:443").parse().unwrap();
        AllowRule::new(name.parse().unwrap(), &target, vec!["control".to_owned()], Vec::new())
    };
    AllowList {
        tenant: "acme".parse().unwrap(),
        connector: "dc-1".parse().unwrap(),
        epoch: 1,
        version,
        not_after: UnixTime(version + 7 * DAY),
        callers: Vec::new(),
        rules: targets.iter().map(rule).collect(),
    }
}

/// What control says waits, and what it says was signed.
fn pending(proposed: &AllowList, signed: Option<&AllowList>, key: &PolicyKey) -> PendingList {
    PendingList {
        connector: proposed.connector.clone(),
        digest: String::new(),
        payload: serde_json::to_string(proposed).unwrap(),
        not_after: proposed.not_after,
        changes: Vec::new(),
        signed: signed.map(|list| sign_allow_list(list, key, Vec::new()).unwrap()),
    }
}

/// A key in a folder of its own.
fn owner() -> (tempfile::TempDir, OwnKey) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.pem");
    key::make(&path).unwrap();
    let own = OwnKey::open(&path).unwrap();
    (folder, own)
}

fn signs(own: &OwnKey, list: &AllowList) {
    let pending = pending(list, None, &own.key);
    let reading = sign::read(&pending, &list.tenant, Some(own)).unwrap();
    sign::sign(&pending, &reading, own, UnixTime(list.version)).unwrap();
}

fn reads(own: &OwnKey, proposed: &AllowList, shown: Option<&AllowList>) -> anyhow::Result<sign::Reading> {
    sign::read(&pending(proposed, shown, &own.key), &proposed.tenant, Some(own))
}

#[test]
fn c5_an_old_list_passed_off_as_the_last_one_hides_no_rule() {
    let (_folder, own) = owner();
    let (wide, narrow) = (list(1_000, &["one", "secret"]), list(2_000, &["one"]));
    signs(&own, &wide);
    signs(&own, &narrow);
    let lie = reads(&own, &list(3_000, &["one", "secret"]), Some(&wide)).unwrap();
    assert!(lie.words.contains("+ rule secret") && lie.words.contains("against version 2000"), "{}", lie.words);
    assert!(lie.words.contains("does not tell the truth"), "{}", lie.words);
    assert_eq!(lie.standing, Standing::Change);
    // Nor do characters that turn the direction of the line.
    let mut turned = list(3_000, &["one"]);
    turned.callers = vec![
        serde_json::from_value(serde_json::json!({
            "id": "gw-\u{202e}1", "kind": "gateway", "kid": "k", "alg": "EdDSA", "jwk": {}
        }))
        .unwrap(),
    ];
    assert!(reads(&own, &turned, None).unwrap().words.contains("+ caller gw-?1"));
    // Nor does one that says nothing, or one that goes back.
    assert_eq!(reads(&own, &list(3_000, &["one", "secret"]), None).unwrap().standing, Standing::Change);
    assert!(reads(&own, &list(1_500, &["one", "secret"]), Some(&wide)).is_err());
    let mut higher = list(1_500, &["one"]);
    higher.epoch = 2;
    assert!(reads(&own, &higher, Some(&narrow)).unwrap().words.contains("epoch 1 becomes 2"));
}

#[test]
fn c5_a_list_in_which_nothing_changes_is_a_renewal_and_one_whose_signature_was_lost_is_signed_again() {
    let (_folder, own) = owner();
    let now = list(2_000, &["one"]);
    signs(&own, &now);
    let renewal = reads(&own, &list(3_000, &["one"]), Some(&now)).unwrap();
    assert_eq!(renewal.standing, Standing::Renewal, "{}", renewal.words);
    assert!(renewal.words.contains("nothing changes but its end"), "{}", renewal.words);
    assert!(reads(&own, &now, None).is_ok(), "the same bytes again");
    let other = list(2_000, &["one", "two"]);
    assert!(reads(&own, &other, None).is_err(), "the same version with other rules");
}

#[test]
fn c5_without_a_record_nothing_is_compared_with_what_control_shows() {
    let (folder, own) = owner();
    let (old, next) = (list(1_000, &["one"]), list(3_000, &["one"]));
    let first = reads(&own, &next, None).unwrap();
    assert_eq!(first.standing, Standing::Change);
    assert!(first.words.contains("+ rule one") && first.words.contains("everything is new"), "{}", first.words);
    let shown = reads(&own, &next, Some(&old)).unwrap();
    assert_eq!(shown.standing, Standing::Unrecorded);
    assert!(shown.words.contains("ATTENTION") && shown.words.contains("+ rule one"), "{}", shown.words);
    // A record of another key, or of another connector, is none to go by.
    let stranger = key::make(&folder.path().join("other.pem")).unwrap();
    let forged = sign_allow_list(&old, &stranger, Vec::new()).unwrap().jws;
    own.keep(&old.tenant, &old.connector, &forged).unwrap();
    assert!(reads(&own, &next, Some(&old)).is_err());
}
