//! Names and codes that people and certificates carry.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use sluice_connector_wire::{Ports, Target, WeeklyWindow};
use sluice_gateway_access::SessionId;
use sluice_node_identity::{HubId, JoinCode, JoinSecret, NodeId, Role, SpiffeId, TenantId, TrustDomain};
use sluice_qos_plan::{InterfaceName, Mac};

use crate::codec::{accepted, lines, text};

/// Join codes: survive being printed, and do not show their secret to a log.
pub fn join_code(data: &[u8]) {
    let text = text(data);
    if let Ok(secret) = JoinSecret::from_text(&text) {
        assert_eq!(secret.to_text(), text, "two spellings of one secret");
    }
    let Ok(code) = text.parse::<JoinCode>() else { return };
    accepted();
    assert_eq!(code.to_string().parse::<JoinCode>().as_ref(), Ok(&code));
    let secret = code.secret.to_text();
    let elsewhere = code.url.contains(&secret) || code.policy_thumbprint.contains(&secret);
    assert!(elsewhere || code.root_pin.as_str().contains(&secret) || !format!("{code:?}").contains(&secret));
}

/// Names of nodes, hubs, tenants, interfaces and devices, one a line: each has one spelling.
pub fn names(data: &[u8]) {
    for line in lines(data) {
        let text = &text(line);
        one_spelling::<SpiffeId>(text);
        one_spelling::<TrustDomain>(text);
        one_spelling::<TenantId>(text);
        one_spelling::<NodeId>(text);
        one_spelling::<HubId>(text);
        one_spelling::<Role>(text);
        one_spelling::<SessionId>(text);
        if let Some(interface) = one_spelling::<InterfaceName>(text) {
            let name = interface.as_str();
            assert!(name.len() <= 15 && !name.starts_with('-') && name != "." && name != "..", "{name:?}");
            assert!(!name.bytes().any(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'"' | b'\\' | b';' | b'{')));
        }
        if let Ok(mac) = text.parse::<Mac>() {
            accepted();
            assert_eq!(mac.to_string(), text.to_ascii_lowercase());
            assert!(mac.bytes()[0] & 1 == 0 && mac.bytes() != [0; 6], "{mac} is not one device");
        }
    }
}

fn one_spelling<T: FromStr + Display>(text: &str) -> Option<T> {
    let name = text.parse::<T>().ok()?;
    accepted();
    assert_eq!(name.to_string(), text, "a name has a second spelling");
    Some(name)
}

/// Targets of streams, one a line: one spelling each, and no host that a resolver could take for an address.
pub fn target(data: &[u8]) {
    for line in lines(data) {
        let text = text(line);
        if let Ok(window) = text.parse::<WeeklyWindow>() {
            assert!(window.is_sound(), "{text:?}");
            assert_eq!(window.to_string().parse(), Ok(window));
        }
        if let Ok(ports) = text.parse::<Ports>() {
            assert!(ports.is_sound() && ports.to_string().parse() == Ok(ports), "{text:?}");
        }
        let Ok(target) = text.parse::<Target>() else { continue };
        accepted();
        assert_eq!(target.to_string(), text, "a target has a second spelling");
        let last = target.host.rsplit('.').next().unwrap_or_default();
        let numeric = last.starts_with(|c: char| c.is_ascii_digit());
        assert!(!numeric || target.host.parse::<IpAddr>().is_ok(), "{text:?} may be read as an address");
        assert!(target.host.bytes().all(|b| b.is_ascii_graphic() && !b"[]/%@\\".contains(&b)), "{text:?}");
    }
}
