//! A gateway document that has been checked: only this is ever served.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_node_identity::{SpiffeId, TenantId};
use thiserror::Error;

use crate::{App, GatewayDocument, Splice, Upstream, header, seal::Sealer};

/// Longest session a document may ask for; rights without an end are not given.
pub const MAX_SESSION_SECONDS: u64 = 86_400;
/// Shortest session that is of use.
const MIN_SESSION_SECONDS: u64 = 60;
const MAX_APPS: usize = 4_096;
const MAX_SPLICES: usize = 64;
const MAX_GROUPS: usize = 1_024;
const MAX_CONNECTORS: usize = 64;

/// Why a document is refused, whole.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadDocument {
    /// Not a lower-case DNS name.
    #[error("{0:?} is not a lower-case DNS name of at most 253 characters with at least one dot")]
    Host(String),
    /// Two things answer to one name.
    #[error("host {0} is used more than once; every app, splice and the login host needs its own")]
    Duplicate(String),
    /// Two apps with one id.
    #[error("app {0} is listed more than once")]
    DuplicateApp(String),
    /// Not `host:port`.
    #[error("{0:?} is not host:port")]
    Address(String),
    /// Not `tcp:host:port`.
    #[error("{0:?} is not tcp:host:port")]
    Target(String),
    /// A resource nobody can reach.
    #[error("app {0} needs 1 to {MAX_CONNECTORS} connectors")]
    Connectors(String),
    /// Cookie key.
    #[error("session_key must be 32 bytes in base64url without padding")]
    SessionKey,
    /// Length of sessions.
    #[error("session_seconds must be {MIN_SESSION_SECONDS} to {MAX_SESSION_SECONDS}")]
    SessionSeconds,
    /// A header name that we may not set.
    #[error("app {app}: user_header {header:?} is not a header name that may be set")]
    UserHeader {
        /// Whose.
        app: String,
        /// Which name.
        header: String,
    },
    /// A host header that would not pass.
    #[error("app {0}: host_header is not a host name")]
    HostHeader(String),
    /// A caller's name.
    #[error("relay caller {0:?} is not a SPIFFE ID")]
    Caller(String),
    /// More than this gateway takes.
    #[error("too many {what}: at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Limit.
        most: usize,
    },
}

/// What this gateway serves, checked and indexed.
pub struct Plan {
    pub(crate) tenant: TenantId,
    pub(crate) login_host: String,
    pub(crate) session_seconds: u64,
    pub(crate) sealer: Sealer,
    apps: BTreeMap<String, App>,
    splices: BTreeMap<String, Splice>,
    relay_callers: BTreeSet<SpiffeId>,
}

impl Plan {
    /// Whom this gateway serves.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The one host on which users log in.
    #[must_use]
    pub fn login_host(&self) -> &str {
        &self.login_host
    }

    /// The app served under `host`.
    #[must_use]
    pub fn app(&self, host: &str) -> Option<&App> {
        self.apps.get(host)
    }

    /// All apps, by host.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values()
    }

    /// Where `server_name` is spliced to.
    #[must_use]
    pub fn splice(&self, server_name: &str) -> Option<&Splice> {
        self.splices.get(server_name)
    }

    /// Whether `host` is terminated here.
    #[must_use]
    pub fn terminates(&self, host: &str) -> bool {
        host == self.login_host || self.apps.contains_key(host)
    }

    /// Whether `caller` may use `sluice-relay/1`.
    #[must_use]
    pub fn may_relay(&self, caller: &SpiffeId) -> bool {
        self.relay_callers.contains(caller)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("tenant", &self.tenant)
            .field("login_host", &self.login_host)
            .field("apps", &self.apps.len())
            .field("splices", &self.splices.len())
            .finish_non_exhaustive()
    }
}

impl TryFrom<GatewayDocument> for Plan {
    type Error = BadDocument;

    fn try_from(document: GatewayDocument) -> Result<Self, BadDocument> {
        if !(MIN_SESSION_SECONDS..=MAX_SESSION_SECONDS).contains(&document.session_seconds) {
            return Err(BadDocument::SessionSeconds);
        }
        let key = URL_SAFE_NO_PAD.decode(&document.session_key.0).map_err(|_| BadDocument::SessionKey)?;
        let key: [u8; 32] = key.try_into().map_err(|_| BadDocument::SessionKey)?;
        at_most("apps", document.apps.len(), MAX_APPS)?;
        at_most("splices", document.splices.len(), MAX_SPLICES)?;

        let mut hosts = BTreeSet::new();
        let mut claim = |host: &str| {
            check_host(host)?;
            if hosts.insert(host.to_owned()) { Ok(()) } else { Err(BadDocument::Duplicate(host.to_owned())) }
        };
        claim(&document.login_host)?;
        let mut splices = BTreeMap::new();
        for splice in document.splices {
            claim(&splice.server_name)?;
            check_address(&splice.to)?;
            splices.insert(splice.server_name.clone(), splice);
        }
        let mut ids = BTreeSet::new();
        let mut apps = BTreeMap::new();
        for app in document.apps {
            claim(&app.host)?;
            check_app(&app)?;
            if !ids.insert(app.id.clone()) {
                return Err(BadDocument::DuplicateApp(app.id.to_string()));
            }
            apps.insert(app.host.clone(), app);
        }
        let relay_callers = document
            .relay
            .callers
            .into_iter()
            .map(|caller| caller.parse().map_err(|_| BadDocument::Caller(caller)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sealer: Sealer::new(document.tenant.clone(), &key),
            tenant: document.tenant,
            login_host: document.login_host,
            session_seconds: document.session_seconds,
            apps,
            splices,
            relay_callers,
        })
    }
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), BadDocument> {
    if count <= most { Ok(()) } else { Err(BadDocument::TooMany { what, most }) }
}

fn check_app(app: &App) -> Result<(), BadDocument> {
    at_most("groups of an app", app.groups.len(), MAX_GROUPS)?;
    if let Some(name) = &app.user_header
        && !header::may_be_user_header(name)
    {
        return Err(BadDocument::UserHeader { app: app.id.to_string(), header: name.clone() });
    }
    match &app.upstream {
        Upstream::Direct { address, tls_server_name, .. } => {
            check_address(address)?;
            tls_server_name.as_deref().map_or(Ok(()), check_host)
        }
        Upstream::Control { address, server_name } => {
            check_address(address)?;
            check_host(server_name)
        }
        Upstream::Resource { connectors, target, host_header, .. } => {
            if connectors.is_empty() || connectors.len() > MAX_CONNECTORS {
                return Err(BadDocument::Connectors(app.id.to_string()));
            }
            let address = target.strip_prefix("tcp:").ok_or_else(|| BadDocument::Target(target.clone()))?;
            check_address(address).map_err(|_| BadDocument::Target(target.clone()))?;
            match host_header {
                Some(host) if check_address(host).is_err() && !is_name(host) => {
                    Err(BadDocument::HostHeader(app.id.to_string()))
                }
                _ => Ok(()),
            }
        }
    }
}

fn check_host(host: &str) -> Result<(), BadDocument> {
    if is_name(host) && host.contains('.') { Ok(()) } else { Err(BadDocument::Host(host.to_owned())) }
}

fn check_address(address: &str) -> Result<(), BadDocument> {
    let bad = || BadDocument::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    // One spelling, the one connectors take: no sign, no leading zeros.
    if !port.parse::<u16>().is_ok_and(|number| number != 0 && number.to_string() == port) {
        return Err(bad());
    }
    let is_v6 =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(|host| host.parse::<std::net::Ipv6Addr>());
    match is_v6 {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err(bad()),
        None if is_name(host) => Ok(()),
        None => Err(bad()),
    }
}

/// Lower-case DNS name (RFC 1123 §2.1), also one label; an IPv4 address passes as well. A name whose last label starts
/// with a digit is none: resolvers read `127.1` or `0x7f.1` as addresses.
fn is_name(name: &str) -> bool {
    if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
        return name.parse::<std::net::Ipv4Addr>().is_ok();
    }
    let label = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
