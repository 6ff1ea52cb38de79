#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);

pub(super) fn mac(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, n]).unwrap()
}

pub(super) fn v4(n: u8) -> IpAddr {
    IpAddr::from([10, 77, 0, n])
}

pub(super) fn hub(n: u8) -> HubId {
    format!("hub-{n}").parse().unwrap()
}

pub(super) fn key(n: u8) -> Fingerprint {
    Fingerprint::of(&[n])
}

pub(super) fn enrolled(n: u8) -> HubStanding {
    HubStanding { enrolled: true, keys: vec![key(n)] }
}

pub(super) fn seen(hub_n: u8, mac_n: u8, address: IpAddr) -> CheckedIn {
    let lease = address.is_ipv4().then(|| mac(mac_n));
    CheckedIn { hub: hub(hub_n), key: key(hub_n), address, neighbour: Some(mac(mac_n)), lease }
}

fn check_in(staging: &mut Staging, who: &CheckedIn, n: u8, now: UnixTime) -> (Result<Mac, Refused>, Vec<Action>) {
    staging.check_in(who, Some(&enrolled(n)), false, now)
}

fn admit(n: u8) -> Action {
    Action::Admit { mac: mac(n), address: v4(n) }
}

fn restage(n: u8) -> Action {
    Action::Restage { mac: mac(n), address: v4(n) }
}

#[test]
fn e7_only_an_enrolled_hub_with_its_own_key_leaves_staging() {
    let mut staging = Staging::default();
    let who = seen(1, 1, v4(1));
    let gone = HubStanding { enrolled: false, keys: vec![key(1)] };
    for standing in [None, Some(&gone), Some(&enrolled(2)), Some(&HubStanding { enrolled: true, keys: vec![] })] {
        assert_eq!(staging.check_in(&who, standing, false, NOW), (Err(Refused::NotEnrolled), vec![]));
    }
    assert_eq!(check_in(&mut staging, &who, 1, NOW), (Ok(mac(1)), vec![admit(1)]));
    assert!(staging.is_admitted(mac(1), v4(1)));
    assert!(!staging.is_admitted(mac(2), v4(1)));
    assert!(!staging.is_admitted(mac(1), v4(2)));
}

#[test]
fn e10_a_revoked_hub_is_staged_with_all_its_addresses() {
    let mut staging = Staging::default();
    let v6: IpAddr = "2001:db8:77::1".parse().unwrap();
    check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
    check_in(&mut staging, &seen(1, 1, v6), 1, NOW).0.unwrap();
    check_in(&mut staging, &seen(2, 2, v4(2)), 2, NOW).0.unwrap();
    assert_eq!(staging.review(|_| Some(HubStanding { enrolled: true, keys: vec![key(1), key(2)] })), []);
    let feed = |id: &HubId| (*id != hub(1)).then(|| enrolled(2));
    assert_eq!(staging.review(feed), [restage(1), Action::Restage { mac: mac(1), address: v6 }]);
    assert_eq!(staging.len(), 1);
}

#[test]
fn a_device_that_cannot_be_told_is_not_admitted() {
    let mut staging = Staging::default();
    let good = seen(1, 1, v4(1));
    for who in [CheckedIn { neighbour: None, ..good.clone() }, CheckedIn { lease: None, ..good.clone() }] {
        assert_eq!(check_in(&mut staging, &who, 1, NOW), (Err(Refused::UnknownDevice), vec![]));
    }
}

#[test]
fn two_certificates_on_one_device_stage_both() {
    for (second, address) in [(seen(2, 1, v4(1)), v4(1)), (seen(2, 1, v4(9)), v4(9))] {
        let mut staging = Staging::default();
        check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
        assert_eq!(check_in(&mut staging, &second, 2, NOW), (Err(Refused::Conflict), vec![restage(1)]));
        assert!(!staging.is_admitted(mac(1), v4(1)) && !staging.is_admitted(mac(1), address));
        let later = NOW.plus(HOLD_SECONDS - 1);
        assert_eq!(check_in(&mut staging, &seen(1, 1, v4(1)), 1, later).0, Err(Refused::Conflict));
        assert_eq!(check_in(&mut staging, &second, 2, later).0, Err(Refused::Conflict));
        assert_eq!(check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW.plus(HOLD_SECONDS)).0, Ok(mac(1)));
    }
}

#[test]
fn one_certificate_on_two_devices_stages_both() {
    let mut staging = Staging::default();
    check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
    assert_eq!(check_in(&mut staging, &seen(1, 2, v4(2)), 1, NOW), (Err(Refused::Conflict), vec![restage(1)]));
    for who in [seen(1, 1, v4(1)), seen(1, 2, v4(2)), seen(2, 2, v4(2)), seen(2, 3, v4(1))] {
        assert_eq!(staging.check_in(&who, Some(&enrolled_for(&who)), false, NOW).0, Err(Refused::Conflict));
    }
}

fn enrolled_for(who: &CheckedIn) -> HubStanding {
    HubStanding { enrolled: true, keys: vec![who.key.clone()] }
}

#[test]
fn an_address_taken_over_by_arp_stages_both() {
    let mut staging = Staging::default();
    check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
    check_in(&mut staging, &seen(2, 2, v4(2)), 2, NOW).0.unwrap();
    let thief = CheckedIn { neighbour: Some(mac(2)), ..seen(2, 1, v4(1)) };
    let (verdict, actions) = check_in(&mut staging, &thief, 2, NOW);
    assert_eq!((verdict, actions), (Err(Refused::Conflict), vec![restage(1), restage(2)]));
}

#[test]
fn silence_of_hub_lease_or_control_never_opens_anything() {
    let mut staging = Staging::default();
    check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
    assert_eq!(staging.tick(NOW.plus(MAX_AGE_SECONDS)), []);
    assert_eq!(staging.tick(NOW.plus(MAX_AGE_SECONDS + 1)), [restage(1)]);
    check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
    assert_eq!(staging.lease_ended(mac(2), v4(1)), []);
    assert_eq!(staging.lease_ended(mac(1), v4(1)), [restage(1)]);
    assert!(staging.is_empty());
    let refused = staging.check_in(&seen(1, 1, v4(1)), Some(&enrolled(1)), true, NOW);
    assert_eq!(refused, (Err(Refused::Stale), vec![]));
}

#[test]
fn other_addresses_follow_the_device_but_not_a_stranger() {
    let mut staging = Staging::default();
    assert_eq!(staging.observe(mac(1), v4(1), NOW), [], "staged devices stay staged");
    check_in(&mut staging, &seen(1, 1, v4(1)), 1, NOW).0.unwrap();
    check_in(&mut staging, &seen(2, 2, v4(2)), 2, NOW).0.unwrap();
    assert_eq!(staging.observe(mac(1), v4(2), NOW), [], "another hub has proved that address");
    assert_eq!(staging.observe(mac(1), v4(9), NOW), [Action::Admit { mac: mac(1), address: v4(9) }]);
    for n in 20..60 {
        staging.observe(mac(1), v4(n), NOW.plus(1));
    }
    assert_eq!(staging.hubs[&hub(1)].addresses.len(), MAX_ADDRESSES, "addresses in use are not pushed out");
    assert!(staging.is_admitted(mac(1), v4(1)));
    let later = NOW.plus(CHECK_IN_SECONDS + 1);
    assert_eq!(staging.observe(mac(1), v4(99), later), [restage(1), Action::Admit { mac: mac(1), address: v4(99) }]);
    assert_eq!(staging.tick(NOW.plus(MAX_AGE_SECONDS + 1)).len(), MAX_ADDRESSES + 1, "both hubs, all addresses");
    assert!(staging.is_empty());
}

#[test]
fn tables_are_bounded() {
    let mut staging = Staging::default();
    let v6 = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
    for n in 0..20 {
        let (verdict, actions) = check_in(&mut staging, &seen(1, 1, v6(n)), 1, NOW.plus(u64::from(n)));
        verdict.unwrap();
        let most = u16::try_from(MAX_ADDRESSES).unwrap();
        let oldest = n.checked_sub(most).map(|n| Action::Restage { mac: mac(1), address: v6(n) });
        // All the hub has are said again: the kernel forgets what is not repeated.
        let kept = (n.saturating_sub(most - 1)..=n).map(|n| Action::Admit { mac: mac(1), address: v6(n) });
        let expected: Vec<Action> = oldest.into_iter().chain(kept).collect();
        assert_eq!(actions, expected);
    }
    let mut staging = Staging::default();
    for n in 0..=MAX_HUBS {
        let [.., a, b] = u32::try_from(n).unwrap().to_be_bytes();
        let device = Mac::new([2, 0, 0, 1, a, b]).unwrap();
        let address = IpAddr::from([10, 1, a, b]);
        let id: HubId = format!("hub-{n}").parse().unwrap();
        let who = CheckedIn { hub: id, key: key(1), address, neighbour: Some(device), lease: Some(device) };
        let verdict = staging.check_in(&who, Some(&enrolled(1)), false, NOW).0;
        assert_eq!(verdict.is_ok(), n < MAX_HUBS, "{n}");
    }
}
