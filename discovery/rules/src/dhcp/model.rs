//! The lease table against a list of promises: who was told that which address is his until when.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, net::Ipv4Addr};

use dhcproto::v4::{DhcpOption as Opt, MessageType};
use proptest::prelude::*;
use sluice_node_identity::UnixTime;

use super::{
    Ended, Server,
    tests::{ip, mac, packet, scope},
};
use crate::Mac;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

#[derive(Clone, Debug)]
enum Step {
    Discover(u8, Option<u8>),
    Select(u8),
    Other(u8),
    Reboot(u8, u8),
    Renew(u8, u8),
    Release(u8, u8),
    Decline(u8, u8),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let (device, address) = (1_u8..8, 48_u8..56);
    prop_oneof![
        3 => (device.clone(), prop::option::of(address.clone())).prop_map(|(d, a)| Step::Discover(d, a)),
        4 => device.clone().prop_map(Step::Select),
        1 => device.clone().prop_map(Step::Other),
        2 => (device.clone(), address.clone()).prop_map(|(d, a)| Step::Reboot(d, a)),
        2 => (device.clone(), address.clone()).prop_map(|(d, a)| Step::Renew(d, a)),
        1 => (device.clone(), address.clone()).prop_map(|(d, a)| Step::Release(d, a)),
        1 => (device, address).prop_map(|(d, a)| Step::Decline(d, a)),
        2 => (0_u16..700).prop_map(Step::Wait),
    ]
}

#[derive(Default)]
struct Model {
    promised: BTreeMap<Ipv4Addr, (Mac, UnixTime)>,
    offered: BTreeMap<Mac, Ipv4Addr>,
}

impl Model {
    fn bytes(&self, step: &Step) -> Option<Vec<u8>> {
        use MessageType as T;
        let asked = |address: Ipv4Addr| vec![Opt::RequestedIpAddress(address)];
        Some(match step {
            Step::Discover(d, a) => packet(mac(*d), T::Discover, None, a.map(|a| asked(ip(a))).unwrap_or_default()),
            Step::Select(d) => {
                let mut options = asked(*self.offered.get(&mac(*d))?);
                options.push(Opt::ServerIdentifier(SERVER));
                packet(mac(*d), T::Request, None, options)
            }
            Step::Other(d) => packet(mac(*d), T::Request, None, vec![Opt::ServerIdentifier(ip(2))]),
            Step::Reboot(d, a) => packet(mac(*d), T::Request, None, asked(ip(*a))),
            Step::Renew(d, a) => packet(mac(*d), T::Request, Some(ip(*a)), vec![]),
            Step::Release(d, a) => packet(mac(*d), T::Release, Some(ip(*a)), vec![]),
            Step::Decline(d, a) => packet(mac(*d), T::Decline, None, asked(ip(*a))),
            Step::Wait(_) => return None,
        })
    }

    /// Promises whose time is over.
    fn expire(&mut self, now: UnixTime) -> Vec<Ended> {
        let over = |(_, (_, until)): &(&Ipv4Addr, &(Mac, UnixTime))| *until <= now;
        let ended: Vec<Ended> = self
            .promised
            .iter()
            .filter(over)
            .map(|(address, (mac, _))| Ended { mac: *mac, address: *address })
            .collect();
        self.promised.retain(|_, (_, until)| *until > now);
        ended
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_address_is_promised_twice_and_every_end_is_told(steps in prop::collection::vec(step(), 1..120)) {
        let scope = scope(50, 53);
        let mut server = Server::new(scope.clone());
        let mut model = Model::default();
        let mut now = UnixTime(1_000_000);
        for step in steps {
            if let Step::Wait(seconds) = step { now = now.plus(u64::from(seconds)); }
            let mut expected = model.expire(now);
            let mut ended = server.expire(now);
            ended.sort();
            expected.sort();
            prop_assert_eq!(&ended, &expected);
            let Some(bytes) = model.bytes(&step) else { continue };
            let outcome = server.handle(&bytes, None, now);
            expected.clear();
            match &step {
                // A decline beyond a device's share is ignored; then the promise stands.
                Step::Release(d, a) | Step::Decline(d, a)
                    if model.promised.get(&ip(*a)).is_some_and(|(holder, _)| *holder == mac(*d))
                        && (!outcome.ended.is_empty() || matches!(step, Step::Release(..))) =>
                {
                    model.promised.remove(&ip(*a));
                    expected.push(Ended { mac: mac(*d), address: ip(*a) });
                }
                _ => {}
            }
            prop_assert_eq!(&outcome.ended, &expected);
            let seen = outcome.seen.unwrap();
            if let Some(address) = seen.bound {
                prop_assert!(scope.pool_contains(address));
                if let Some((holder, _)) = model.promised.get(&address) { prop_assert_eq!(*holder, seen.mac); }
                prop_assert!(model.promised.iter().all(|(other, (holder, _))| *holder != seen.mac || *other == address));
                model.promised.insert(address, (seen.mac, now.plus(600)));
            } else if let (Step::Discover(..), Some(reply)) = (&step, &outcome.reply) {
                let octets: [u8; 4] = reply.bytes[16..20].try_into().unwrap();
                let address = Ipv4Addr::from(octets);
                if let Some((holder, _)) = model.promised.get(&address) { prop_assert_eq!(*holder, seen.mac); }
                model.offered.insert(seen.mac, address);
            }
            let live: BTreeMap<_, _> = server.leases(now).map(|(a, lease)| (a, (lease.mac, lease.until))).collect();
            prop_assert_eq!(&live, &model.promised);
            server.check();
        }
    }
}
