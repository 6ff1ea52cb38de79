//! The policy as nftables text: a flow is judged once and remembers its class in its conntrack mark.
//!
//! The mark's low byte is the class, the next byte the policy's generation: a new policy judges running flows anew.

use std::fmt::Write;

use thiserror::Error;

use crate::{QosPolicy, QosRule, TrafficClass, Transport};

/// Which policy a flow was judged by; counts 1…255 and around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u8);

impl Generation {
    /// The first policy after start.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(if self.0 == u8::MAX { 1 } else { self.0 + 1 })
    }
}

/// A policy that cannot be carried out. Its author's fault; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Too long.
    #[error("a policy has at most {max} rules, this one has {have}")]
    TooManyRules {
        /// Rules given.
        have: usize,
        /// Rules allowed.
        max: usize,
    },
    /// First port after last.
    #[error("rule {rule}: ports {first}-{last} are empty; the first port comes first")]
    Ports {
        /// Position, from 1.
        rule: usize,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}

/// Rules that mark each flow once per policy; replaces the former rules in one transaction.
///
/// # Errors
/// [`PolicyError`].
pub fn classify(policy: &QosPolicy, generation: Generation) -> Result<String, PolicyError> {
    if policy.rules.len() > QosPolicy::MAX_RULES {
        return Err(PolicyError::TooManyRules { have: policy.rules.len(), max: QosPolicy::MAX_RULES });
    }
    let mut script = String::from("flush chain inet sluice classify\n");
    let stamp = u32::from(generation.0) << 8;
    let add = "add rule inet sluice classify";
    // Writing to a String cannot fail.
    let _infallible = writeln!(script, "{add} ct mark and 0xff00 == {stamp:#x} return");
    for (position, QosRule { when, class }) in policy.rules.iter().enumerate() {
        let (first, last) = when.ports;
        if first > last {
            return Err(PolicyError::Ports { rule: position.saturating_add(1), first, last });
        }
        let network = when.network.map(|network| {
            let family = if network.is_ipv4() { "ip" } else { "ip6" };
            format!(" ct original {family} daddr {}/{}", network.network(), network.prefix())
        });
        let _infallible = writeln!(
            script,
            "{add} meta l4proto {} ct original proto-dst {first}-{last}{} {} return",
            when.transport.as_str(),
            network.unwrap_or_default(),
            set_mark(*class, stamp),
        );
    }
    let _infallible = writeln!(script, "{add} {}", set_mark(TrafficClass::Default, stamp));
    Ok(script)
}

fn set_mark(class: TrafficClass, stamp: u32) -> String {
    format!("ct mark set ct mark and 0xffff0000 or {:#x}", stamp | u32::from(class.mark()))
}

impl QosPolicy {
    /// Longest policy.
    pub const MAX_RULES: usize = 1_000;
}

impl TrafficClass {
    /// The class's number in a conntrack mark.
    pub(crate) const fn mark(self) -> u8 {
        match self {
            Self::Realtime => 1,
            Self::Interactive => 2,
            Self::Iot => 3,
            Self::Default => 4,
            Self::Bulk => 5,
            Self::Background => 6,
        }
    }
}

impl Transport {
    /// As nft spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
