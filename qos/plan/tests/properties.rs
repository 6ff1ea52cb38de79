//! What holds for every line, every policy and every text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, net::IpAddr};

use proptest::prelude::*;
use sluice_qos_plan::{
    Capabilities, Generation, InterfaceName, LanPort, Links, Mac, Match, QosPolicy, QosRule, TcTree, TrafficClass,
    Transport, WanPort, admit, classify,
    message::{self, ToKernel},
    restage,
};

fn links(up_kbit: u32, down_kbit: Option<u32>) -> Links {
    Links {
        lan: LanPort { interface: "lan".parse().unwrap(), tcp_services: vec![], udp_services: vec![] },
        wan: WanPort { interface: "wan".parse().unwrap(), up_kbit, down_kbit },
    }
}

/// The reference: what nft's element syntax would do to a set of pairs.
fn replay(scripts: &[String]) -> Result<BTreeSet<String>, String> {
    let mut elements = BTreeSet::new();
    for line in scripts.iter().flat_map(|script| script.lines()) {
        let (verb, rest) = line.split_once(" element inet sluice ").ok_or_else(|| line.to_owned())?;
        match verb {
            "add" => {
                elements.insert(rest.to_owned());
            }
            "delete" if elements.remove(rest) => {}
            _ => return Err(format!("{line}: would be refused")),
        }
    }
    Ok(elements)
}

fn any_rule() -> impl Strategy<Value = QosRule> {
    let class = prop::sample::select(TrafficClass::ALL.to_vec());
    let transport = prop::sample::select(vec![Transport::Tcp, Transport::Udp]);
    (any::<(u16, u16)>(), transport, class)
        .prop_map(|(ports, transport, class)| QosRule { when: Match { transport, ports, network: None }, class })
}

proptest! {
    #[test]
    fn guarantees_fit_the_line_and_nothing_exceeds_it(up in 1_000u32..10_000_000, down in prop::option::of(1_000u32..10_000_000)) {
        for (tree, line) in TcTree::of(&links(up, down), Capabilities::default()).iter().zip([Some(up), down]) {
            let line = line.unwrap();
            prop_assert!(tree.rate_kbit < line, "the queue must be ours");
            prop_assert!(tree.classes.iter().map(|class| class.rate_kbit).sum::<u32>() <= tree.rate_kbit);
            prop_assert!(tree.classes.iter().all(|class| class.rate_kbit >= 8 && class.ceil_kbit <= tree.rate_kbit));
            prop_assert!(tree.classes.windows(2).all(|pair| pair[0].priority < pair[1].priority));
            prop_assert!(tree.change_from(tree).is_none());
        }
    }

    #[test]
    fn a_frame_of_the_port_itself_is_never_cut_nor_dropped(up in 100u32..10_000_000, mtu in 68u32..65_536, tbf: bool) {
        let can = Capabilities { tbf, wan_mtu: Some(mtu), ..Capabilities::default() };
        for tree in TcTree::of(&links(up, Some(up)), can) {
            let is_wan = tree.interface.as_str() == "wan";
            prop_assert!(tree.cut.is_none_or(|longest| tbf && is_wan && longest >= mtu + 14));
            prop_assert!(tree.cut.is_some() || !tbf || !is_wan || up > 100_000, "slow lines are cut");
        }
    }

    #[test]
    fn admissions_in_any_order_leave_exactly_the_admitted(steps in prop::collection::vec((any::<bool>(), 0u8..4, 0u8..4), 0..40)) {
        let mut model = BTreeSet::new();
        let mut scripts = Vec::new();
        for (in_, mac, host) in steps {
            // A device has its own addresses: two devices never share one in the staging rules.
            let mac_address = Mac::new([2, 0, 0, 0, 0, mac]).unwrap();
            let address: IpAddr = if host % 2 == 0 { [10, 0, mac, host].into() } else { [0xfd00, 0, 0, 0, 0, 0, mac.into(), host.into()].into() };
            scripts.push(if in_ { admit(mac_address, address) } else { restage(mac_address, address) });
            if in_ { model.insert((mac_address, address)); } else { model.remove(&(mac_address, address)); }
        }
        let elements = replay(&scripts).unwrap();
        prop_assert_eq!(elements.len(), model.len() * 2);
        for (mac, address) in model {
            let present = elements.iter().any(|element| element.contains(&format!("{{ {mac} . {address} }}")));
            prop_assert!(present);
        }
    }

    #[test]
    fn a_policy_becomes_one_rule_each_or_is_refused_whole(rules in prop::collection::vec(any_rule(), 0..20)) {
        let empty_range = rules.iter().any(|rule| rule.when.ports.0 > rule.when.ports.1);
        match classify(&QosPolicy { rules: rules.clone() }, Generation::FIRST) {
            Ok(script) => {
                prop_assert!(!empty_range);
                // The flush, the "judged already" rule, one per rule, the default.
                prop_assert_eq!(script.lines().count(), rules.len() + 3);
            }
            Err(_) => prop_assert!(empty_range),
        }
    }

    #[test]
    fn names_that_parse_are_safe_in_scripts(text in ".{0,20}") {
        if let Ok(name) = text.parse::<InterfaceName>() {
            prop_assert_eq!(name.to_string(), text.clone());
            let unsafe_in_scripts = text.contains(|c: char| !c.is_ascii_alphanumeric() && !"._-@".contains(c));
            prop_assert!(!unsafe_in_scripts && text.len() <= 15);
        }
        if let Ok(mac) = text.parse::<Mac>() {
            prop_assert_eq!(mac.to_string(), text.to_lowercase());
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200), prefix in any::<[u8; 4]>()) {
        let _answer = message::decode::<ToKernel>(&body);
        if let Ok(length) = message::body_length(prefix) {
            prop_assert!(length <= message::MAX_MESSAGE);
        }
    }
}
