//! What the edge's wire side may ask of the process that writes to the kernel, and what comes of it there.

use sluice_qos_plan::{
    Capabilities, Generation, Links, QosPolicy, TcTree, admit, base, classify,
    message::{Change, FromKernel, MAX_MESSAGE, ToKernel, body_length, decode, encode},
    pinholes, restage, restage_all,
};

use crate::codec::{accepted, json};

/// Messages, without their length: survive a round trip, and become scripts that say nothing but what they mean.
pub fn kernel_message(data: &[u8]) {
    if let Some(prefix) = data.first_chunk::<4>() {
        let length = u32::from_be_bytes(*prefix) as usize;
        assert_eq!(body_length(*prefix).is_ok(), length <= MAX_MESSAGE);
    }
    json::<FromKernel>(data);
    let Ok(message) = decode::<ToKernel>(data) else { return };
    accepted();
    if let Ok(written) = encode(&message) {
        let (prefix, body) = written.split_first_chunk::<4>().unwrap();
        assert_eq!(body_length(*prefix).unwrap(), body.len());
        assert_eq!(decode::<ToKernel>(body).unwrap(), message);
    }
    match message {
        ToKernel::Policy { policy } => match classify(&policy, Generation::FIRST) {
            Ok(script) => {
                is_script(&script);
                assert_eq!(script.lines().count(), policy.rules.len() + 3);
            }
            Err(_) => assert!(
                policy.rules.len() > QosPolicy::MAX_RULES
                    || policy.rules.iter().any(|rule| rule.when.ports.0 > rule.when.ports.1)
            ),
        },
        ToKernel::Pinholes { pinholes: list } => {
            let script = pinholes(&list);
            is_script(&script);
            assert_eq!(script.lines().count(), list.len() + 2);
        }
        ToKernel::Devices { changes } => changes.iter().for_each(|change| match *change {
            Change::Admit { mac, address } => is_script(&admit(mac, address)),
            Change::Restage { mac, address } => {
                let script = restage(mac, address);
                is_script(&script);
                // What is admitted first must be taken back last, or the device stays admitted.
                assert!(admit(mac, address).starts_with(&script) && script.starts_with("add "));
                assert!(script.lines().last().unwrap().starts_with("delete "));
            }
        }),
        ToKernel::RestageAll => is_script(&restage_all()),
    }
}

/// Every line is one statement about our own table, in plain characters.
pub(crate) fn is_script(script: &str) {
    for line in script.lines() {
        let ours = ["add rule inet sluice ", "add element inet sluice ", "delete element inet sluice "];
        let flushes = ["flush set inet sluice ", "flush chain inet sluice "];
        assert!(ours.iter().chain(&flushes).any(|start| line.starts_with(start)), "{line:?}");
        assert!(line.bytes().all(|b| b.is_ascii_alphanumeric() || b" .:/-_{}=".contains(&b)), "{line:?}");
        assert!(!line.contains(" ; ") && line.matches('{').count() <= 1, "{line:?}");
    }
}

/// The ports of an edge: any line rate gives shapers whose numbers fit each other.
pub fn links(data: &[u8]) {
    let Some(links) = json::<Links>(data) else { return };
    accepted();
    let script = base(&links);
    assert!(script.matches("table inet sluice").count() == 3 && script.ends_with("}\n"));
    assert_eq!(script.matches('{').count(), script.matches('}').count());
    assert_eq!(script.matches('"').count() % 2, 0);
    let all = Capabilities { fq_codel: true, tbf: true, lan_mtu: Some(u32::MAX), wan_mtu: Some(1_500) };
    for can in [Capabilities::default(), all] {
        let trees = TcTree::of(&links, can);
        assert_eq!(trees.len(), 1 + usize::from(links.wan.down_kbit.is_some()));
        for tree in &trees {
            assert!(tree.classes.iter().all(|class| class.rate_kbit <= class.ceil_kbit.max(1)));
            assert!(tree.classes.iter().all(|class| class.ceil_kbit <= tree.rate_kbit.max(1)));
            assert_eq!(tree.change_from(tree), None);
            let script = tree.install();
            assert!(
                script.bytes().all(|b| b == b'\n' || b.is_ascii_alphanumeric() || b" .:-_@".contains(&b)),
                "{script}"
            );
        }
    }
}
