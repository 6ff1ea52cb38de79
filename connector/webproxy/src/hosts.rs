//! `NO_PROXY`: which hosts a rule names.
//!
//! There is no standard. What curl, Go, wget and Python agree on is read, and where they differ the wider reading wins:
//! a name also names everything below it, with or without a leading dot or `*.`.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use thiserror::Error;

use crate::place::{Target, host_and_port};

/// A list of host rules, each kept as it was written so that an explanation can cite it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    text: String,
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// `*`
    All,
    /// A network or a single address.
    Network(IpNetwork),
    /// A name and everything below it.
    Name(String),
    /// `.name`: only what is below it.
    Below(String),
}

/// Why a list is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HostRulesError {
    /// An entry.
    #[error(
        "{0:?} is not a host rule: name a host, .suffix, *.suffix, address or network (CIDR), each with :port if need be, or *"
    )]
    Entry(String),
    /// More than [`MAX_RULES`] entries.
    #[error("more than {MAX_RULES} host rules")]
    TooMany,
}

impl HostRules {
    /// Reads entries parted by commas or blanks.
    ///
    /// # Errors
    /// [`HostRulesError`] names the entry.
    pub fn read(text: &str) -> Result<Self, HostRulesError> {
        Self::new(text.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty()))
    }

    /// Reads entries.
    ///
    /// # Errors
    /// [`HostRulesError`] names the entry.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, HostRulesError> {
        let mut rules = Vec::new();
        for entry in entries {
            if rules.len() >= MAX_RULES {
                return Err(HostRulesError::TooMany);
            }
            rules.push(Rule::read(entry).ok_or_else(|| HostRulesError::Entry(entry.chars().take(64).collect()))?);
        }
        Ok(Self(rules))
    }

    /// Reads what it can of entries parted by commas or blanks; gives those, too, that are none.
    #[must_use]
    pub fn read_some(text: &str) -> (Self, Vec<String>) {
        let (mut rules, mut others) = (Vec::new(), Vec::new());
        for entry in text.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty()) {
            match Rule::read(entry).filter(|_| rules.len() < MAX_RULES) {
                Some(rule) => rules.push(rule),
                None if others.len() < MAX_OTHERS => others.push(entry.chars().take(64).collect()),
                None => {}
            }
        }
        (Self(rules), others)
    }

    /// The first rule that names `target`, as it was written. Names are not resolved for it.
    #[must_use]
    pub fn naming(&self, target: &Target) -> Option<&str> {
        self.0.iter().find(|rule| rule.names(target)).map(|rule| rule.text.as_str())
    }

    /// Whether there are no rules.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    fn read(entry: &str) -> Option<Self> {
        let rule = |hosts, port| Some(Self { text: entry.to_owned(), hosts, port });
        if entry == "*" {
            return rule(Hosts::All, None);
        }
        if let Ok(network) = entry.parse::<IpNetwork>() {
            return rule(Hosts::Network(network), None);
        }
        let suffix = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.'));
        let (host, port) = host_and_port(suffix.unwrap_or(entry)).ok()?;
        match (suffix, host.parse::<IpAddr>()) {
            (Some(_), Ok(_)) => None,
            (None, Ok(address)) => rule(Hosts::Network(address.into()), port),
            (Some(_), Err(_)) if entry.starts_with('*') => rule(Hosts::Below(host), port),
            // `.corp.example` names `corp.example` itself too, as in curl and wget.
            (_, Err(_)) => rule(Hosts::Name(host), port),
        }
    }

    fn names(&self, target: &Target) -> bool {
        let host = target.host();
        let below = |name: &str| host.strip_suffix(name).is_some_and(|front| front.len() > 1 && front.ends_with('.'));
        self.port.is_none_or(|port| port == target.port())
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Network(network) => target.address().is_some_and(|at| network.contains(at.to_canonical())),
                Hosts::Name(name) => host == name || below(name),
                Hosts::Below(name) => below(name),
            }
    }
}

impl fmt::Display for HostRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|rule| rule.text.as_str()).collect();
        f.write_str(&texts.join(","))
    }
}

/// Most entries given back that are no rules.
const MAX_OTHERS: usize = 16;
/// Most rules in one list.
pub(crate) const MAX_RULES: usize = 256;
