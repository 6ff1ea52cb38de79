//! One rule of an allow-list: what it covers, for whom, and when.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use sluice_node_identity::{ResourceId, UnixTime};
use thiserror::Error;

use crate::{
    Hours, Ports, Target, WeeklyWindow,
    hours::{hours, open},
    when,
};

/// Most time windows of one rule.
pub const MAX_WINDOWS: usize = 32;
/// Longest an exception may last, in seconds.
pub const MAX_EXCEPTION: u64 = 24 * 3600;
/// Longest name of a rule.
const MAX_NAME: usize = 128;

/// One permitted target, or a set of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// What logs call it; empty means as its resource. No two rules of a list have the same written name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The token's `res`.
    pub resource: ResourceId,
    /// The token's `tgt` must have it.
    pub protocol: Protocol,
    /// Exact host name or address; `*.suffix` (one or more labels); or a network such as `10.1.0.0/16`: every address
    /// in it, asked for as an address.
    pub host: String,
    /// Ports the target may have.
    #[serde(alias = "port")]
    pub ports: Ports,
    /// Ids of the callers this rule is for.
    pub callers: Vec<String>,
    /// Own networks the resolved address may lie in; what the dial guard otherwise refuses must be named here, or be
    /// the host itself when that is a network.
    pub networks: Vec<IpNetwork>,
    /// Hours at which it holds, UTC; none means always. At most [`MAX_WINDOWS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<WeeklyWindow>,
    /// Present on a rule that ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<Exception>,
}

/// How long a rule that ends by itself holds. The agent refuses a list with a longer one, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// When it was made.
    pub made: UnixTime,
    /// The second from which it holds no longer; at most [`MAX_EXCEPTION`] after `made`.
    pub until: UnixTime,
}

/// What is asked of a rule or a list.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks: `control` or a gateway's node id.
    pub caller: &'a str,
    /// As which resource; `None` asks for any.
    pub resource: Option<&'a ResourceId>,
    /// For which target.
    pub target: &'a Target,
}

/// What one rule says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Lets it pass.
    Allows {
        /// Until then, when the rule's hours or the exception end.
        until: Option<UnixTime>,
    },
    /// For the other transport.
    OtherProtocol,
    /// For other hosts.
    OtherHost,
    /// For other ports.
    OtherPort,
    /// For another resource.
    OtherResource,
    /// For other callers.
    OtherCaller,
    /// Not at this hour.
    Closed {
        /// When it holds again.
        opens: UnixTime,
    },
    /// An exception that is over.
    Over {
        /// Since then.
        since: UnixTime,
    },
}

/// Why a rule cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleFault {
    /// [`AllowRule::host`]
    #[error("has a host pattern that is not a name, an address, *.suffix or a network")]
    Host,
    /// [`AllowRule::networks`]
    #[error("names an own network that is every address there is, or has bits beyond its prefix: write 10.1.0.0/16")]
    Network,
    /// [`AllowRule::ports`]
    #[error("has ports that are no range from 1 to 65535")]
    Ports,
    /// [`AllowRule::times`]
    #[error("has more than {MAX_WINDOWS} time windows, or one that cannot be meant")]
    Times,
    /// [`AllowRule::name`]
    #[error("has a name that is used twice, or is not 1 to {MAX_NAME} of a-z, 0-9 and -._/")]
    Name,
    /// [`Exception`] too long, or ends before it begins.
    #[error("is an exception of {0} s; one lasts at most {MAX_EXCEPTION} s (24 h)")]
    Exception(u64),
    /// [`Exception::made`]
    #[error(
        "is an exception made {0} s in the future by this connector's clock; set the clocks of this connector and of \
         control"
    )]
    Future(u64),
}

impl AllowRule {
    /// A rule without hours or end for one target.
    #[must_use]
    pub fn new(resource: ResourceId, target: &Target, callers: Vec<String>, networks: Vec<IpNetwork>) -> Self {
        Self {
            name: String::new(),
            resource,
            protocol: target.protocol,
            host: target.host.clone(),
            ports: target.port.into(),
            callers,
            networks,
            times: Vec::new(),
            exception: None,
        }
    }

    /// What logs call it; stays the same from list to list.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.name.is_empty() { self.resource.as_str() } else { &self.name }
    }

    /// Whether it is for this caller.
    #[must_use]
    pub fn lets(&self, caller: &str) -> bool {
        self.callers.iter().any(|id| id == caller)
    }

    /// What it says to `question`.
    #[must_use]
    pub fn judge(&self, question: &Question<'_>, now: UnixTime) -> Verdict {
        match self.mismatch(question, now) {
            Some(verdict) => verdict,
            None => Verdict::Allows { until: self.holds_until(now) },
        }
    }

    /// As [`Self::judge`], for whoever need not know until when.
    pub(crate) fn allows(&self, question: &Question<'_>, now: UnixTime) -> bool {
        self.mismatch(question, now).is_none()
    }

    fn mismatch(&self, question: &Question<'_>, now: UnixTime) -> Option<Verdict> {
        let target = question.target;
        if question.resource.is_some_and(|asked| *asked != self.resource) {
            return Some(Verdict::OtherResource);
        }
        if !self.covers_host(&target.host) {
            return Some(Verdict::OtherHost);
        }
        if self.protocol != target.protocol {
            return Some(Verdict::OtherProtocol);
        }
        if !self.ports.contain(target.port) {
            return Some(Verdict::OtherPort);
        }
        if !self.lets(question.caller) {
            return Some(Verdict::OtherCaller);
        }
        if let Some(exception) = self.exception.filter(|exception| exception.until <= now) {
            return Some(Verdict::Over { since: exception.until });
        }
        if open(&self.times, now) {
            return None;
        }
        match hours(&self.times, now) {
            Hours::Closed { opens } => Some(Verdict::Closed { opens }),
            Hours::Always | Hours::Until(_) => None,
        }
    }

    /// While it holds: when it will stop, if ever.
    pub(crate) fn holds_until(&self, now: UnixTime) -> Option<UnixTime> {
        let closes = match hours(&self.times, now) {
            Hours::Until(end) => Some(end),
            Hours::Always | Hours::Closed { .. } => None,
        };
        let ends = self.exception.map(|exception| exception.until);
        closes.into_iter().chain(ends).min()
    }

    fn covers_host(&self, host: &str) -> bool {
        let asked = host.parse::<IpAddr>();
        if let Some(suffix) = self.host.strip_prefix("*.") {
            let labels = host.strip_suffix(suffix).and_then(|front| front.strip_suffix('.'));
            return asked.is_err() && labels.is_some_and(is_labels);
        }
        match (self.network(), self.host.parse::<IpAddr>(), asked) {
            (Some(network), _, Ok(asked)) => network.contains(asked),
            (None, Ok(rule), Ok(asked)) => rule == asked,
            (None, Err(_), Err(_)) => self.host == host,
            _ => false,
        }
    }

    /// The host, when it is a network. `10.0.0.0` alone is an address.
    fn network(&self) -> Option<IpNetwork> {
        self.host.contains('/').then(|| self.host.parse().ok()).flatten()
    }

    /// Own networks in which the dialled address may lie.
    pub(crate) fn own_networks(&self) -> impl Iterator<Item = IpNetwork> {
        self.networks.iter().copied().chain(self.network())
    }

    /// Refuses a rule that nobody can mean. `leeway` is how many seconds after `now` an exception may have been made.
    ///
    /// # Errors
    /// [`RuleFault`].
    pub fn check(&self, now: UnixTime, leeway: u64) -> Result<(), RuleFault> {
        if !is_pattern(&self.host) {
            return Err(RuleFault::Host);
        }
        if !self.networks.iter().all(is_network) {
            return Err(RuleFault::Network);
        }
        if !self.ports.is_sound() {
            return Err(RuleFault::Ports);
        }
        if self.times.len() > MAX_WINDOWS || !self.times.iter().all(WeeklyWindow::is_sound) {
            return Err(RuleFault::Times);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'/');
        if self.name.len() > MAX_NAME || !self.name.bytes().all(plain) {
            return Err(RuleFault::Name);
        }
        let Some(Exception { made, until }) = self.exception else { return Ok(()) };
        if until <= made || until.since(made) > MAX_EXCEPTION {
            return Err(RuleFault::Exception(until.since(made)));
        }
        if made.since(now) > leeway {
            return Err(RuleFault::Future(made.since(now)));
        }
        Ok(())
    }
}

impl fmt::Display for AllowRule {
    /// The whole rule on one line, for people who decide about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') && self.network().is_none() {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let callers = if self.callers.is_empty() { "nobody".to_owned() } else { self.callers.join(", ") };
        write!(f, "{}: {} {host} port {} for {callers}", self.name(), self.protocol.as_str(), self.ports)?;
        if self.name() != self.resource.as_str() {
            write!(f, "; as resource {}", self.resource)?;
        }
        for (index, network) in self.networks.iter().enumerate() {
            write!(f, "{} {network}", if index == 0 { "; in" } else { "," })?;
        }
        for (index, window) in self.times.iter().enumerate() {
            write!(f, "{} {window}", if index == 0 { "; UTC" } else { "," })?;
        }
        match self.exception {
            Some(exception) => write!(f, "; exception until {}", when(exception.until)),
            None => Ok(()),
        }
    }
}

/// Whether `text` is an address, a network, a lower-case name, or `*.` and a lower-case name.
pub(crate) fn is_pattern(text: &str) -> bool {
    if text.contains('/') {
        return text.parse::<IpNetwork>().is_ok_and(|network| is_network(&network) && network.to_string() == text);
    }
    is_host(text) || text.strip_prefix("*.").is_some_and(is_host_name)
}

/// Host bits, or every address there is, are rather a slip.
fn is_network(network: &IpNetwork) -> bool {
    network.network() == network.ip() && network.prefix() > 0
}

/// Whether `text` is an address or a lower-case name.
pub(crate) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_host_name(text)
}

/// A name whose last label starts with a digit is none: resolvers read `127.1` or `0x7f.1` as addresses.
fn is_host_name(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    is_labels(text) && !last.starts_with(|c: char| c.is_ascii_digit())
}

fn is_labels(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    text.len() <= 253 && text.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
}

/// Transport a connector dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// Datagrams to and from one UDP port.
    Udp,
}

impl Protocol {
    /// As in targets: `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
