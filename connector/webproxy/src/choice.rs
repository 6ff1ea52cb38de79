//! Which ways lead to a target, and why.

use std::fmt;

use crate::{
    environment::Environment,
    hosts::HostRules,
    place::{Proxy, Target},
};

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Without a proxy.
    Direct,
    /// By CONNECT through it.
    Proxy(Proxy),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("directly"),
            Self::Proxy(proxy) => write!(f, "through the web proxy {proxy}"),
        }
    }
}

/// Who names the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody: always direct.
    #[default]
    Nothing,
    /// The configuration.
    Fixed(Proxy),
    /// The environment the connector was started with.
    Environment(Environment),
    /// A PAC script; it is asked for every target that no rule exempts.
    Pac,
}

/// How to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who names the proxy.
    pub source: Source,
    /// Who is reached directly whatever the source says.
    pub no_proxy: HostRules,
    /// To which proxies credentials may be shown; empty: to all. For scripts that come from the network.
    pub login_at: HostRules,
}

/// Why a way was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No proxy is configured.
    NoProxyNamed,
    /// By the configuration's `url`.
    Configured,
    /// By this variable.
    Variable(&'static str),
    /// By this rule of `no_proxy`.
    Exempt(String),
    /// By the PAC script, which returned this.
    Script(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProxyNamed => f.write_str("no proxy is configured, and the environment names none"),
            Self::Configured => f.write_str("web_proxy.url"),
            Self::Variable(name) => write!(f, "the environment's {name}"),
            Self::Exempt(rule) => write!(f, "the no_proxy rule {rule}"),
            Self::Script(result) => write!(f, "the PAC script returned {result:?}"),
        }
    }
}

/// What to do for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Try these, in this order.
    Ways(Vec<Way>, Why),
    /// Ask the script.
    AskScript,
}

impl Settings {
    /// Chooses for `target`.
    #[must_use]
    pub fn choose(&self, target: &Target) -> Choice {
        if self.source == Source::Nothing {
            return Choice::Ways(vec![Way::Direct], Why::NoProxyNamed);
        }
        let of_environment = match &self.source {
            Source::Environment(environment) => environment.no_proxy.naming(target),
            _ => None,
        };
        if let Some(rule) = self.no_proxy.naming(target).or(of_environment) {
            return Choice::Ways(vec![Way::Direct], Why::Exempt(rule.to_owned()));
        }
        let through = |proxy: &Proxy, why| Choice::Ways(vec![Way::Proxy(proxy.clone())], why);
        match &self.source {
            Source::Fixed(proxy) => through(proxy, Why::Configured),
            Source::Environment(Environment { proxy: Some((proxy, name)), .. }) => through(proxy, Why::Variable(name)),
            Source::Environment(_) | Source::Nothing => Choice::Ways(vec![Way::Direct], Why::NoProxyNamed),
            Source::Pac => Choice::AskScript,
        }
    }

    /// Whether `proxy` may be shown credentials.
    #[must_use]
    pub fn may_log_in_at(&self, proxy: &Proxy) -> bool {
        self.login_at.is_empty()
            || Target::new(&proxy.host, proxy.port).is_ok_and(|at| self.login_at.naming(&at).is_some())
    }
}
