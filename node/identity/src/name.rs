//! Identifiers and SPIFFE names (SPIFFE-ID §2).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a piece of text is not a name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadName {
    /// Not 1–63 characters of `a-z`, `0-9`, `-`, starting and ending with a letter or digit.
    #[error("a {what} is 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit")]
    Label {
        /// Which kind of name was expected.
        what: &'static str,
    },
    /// Not a lower-case DNS name of at most 255 characters.
    #[error("a trust domain is a lower-case DNS name of at most 255 characters")]
    TrustDomain,
    /// Not a SPIFFE ID in one of sluice's shapes.
    #[error("not a SPIFFE ID of the shape spiffe://<trust-domain>/tenant/<tenant>/<role>/<id>")]
    Spiffe,
    /// Not one of `gateway`, `edge`, `connector`.
    #[error("a node's role is gateway, edge or connector")]
    Role,
}

fn is_label(text: &str) -> bool {
    let edge_ok = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge_ok(bytes.first())
        && edge_ok(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_label(text) { Ok(Self(text.to_owned())) } else { Err(BadName::Label { what: $what }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label!(
    /// A customer; nothing crosses from one tenant to another.
    TenantId, "tenant name");
label!(
    /// A gateway, edge or connector.
    NodeId, "node name");
label!(
    /// A place with an address and a time zone.
    SiteId, "site name");
label!(
    /// An enrolled device.
    HubId, "hub name");
label!(
    /// What a user opens.
    AppId, "app name");
label!(
    /// Protocol + host pattern + port at a site.
    ResourceId, "resource name");
label!(
    /// How to talk to one system of record.
    IntegrationId, "integration name");
label!(
    /// A person's account.
    UserId, "user name");

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Terminates users' TLS in the DMZ.
    Gateway,
    /// Branch appliance: discovery and QoS.
    Edge,
    /// Outbound-only agent beside the systems of record.
    Connector,
}

impl Role {
    /// The role's path element in a SPIFFE ID.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Edge => "edge",
            Self::Connector => "connector",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text {
            "gateway" => Ok(Self::Gateway),
            "edge" => Ok(Self::Edge),
            "connector" => Ok(Self::Connector),
            _ => Err(BadName::Role),
        }
    }
}

/// The authority part of every SPIFFE ID of one control service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.len() <= 255 && text.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::TrustDomain)
        }
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a certificate names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// The control service itself.
    Control,
    /// A node of a tenant.
    Node {
        /// Whose node.
        tenant: TenantId,
        /// What it does.
        role: Role,
        /// Which one.
        id: NodeId,
    },
    /// An enrolled device of a tenant.
    Hub {
        /// Whose hub.
        tenant: TenantId,
        /// Which one.
        id: HubId,
    },
}

/// `spiffe://<trust-domain>/control`, `…/tenant/<t>/<role>/<id>` or `…/tenant/<t>/hub/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Authority part.
    pub trust_domain: TrustDomain,
    /// Path part.
    pub principal: Principal,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = &self.trust_domain;
        match &self.principal {
            Principal::Control => write!(f, "spiffe://{domain}/control"),
            Principal::Node { tenant, role, id } => write!(f, "spiffe://{domain}/tenant/{tenant}/{role}/{id}"),
            Principal::Hub { tenant, id } => write!(f, "spiffe://{domain}/tenant/{tenant}/hub/{id}"),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let rest = text.strip_prefix("spiffe://").ok_or(BadName::Spiffe)?;
        let mut parts = rest.split('/');
        let trust_domain = parts.next().ok_or(BadName::Spiffe)?.parse()?;
        let path: Vec<&str> = parts.collect();
        let principal = match path.as_slice() {
            ["control"] => Principal::Control,
            ["tenant", tenant, "hub", id] => Principal::Hub { tenant: tenant.parse()?, id: id.parse()? },
            ["tenant", tenant, role, id] => {
                Principal::Node { tenant: tenant.parse()?, role: role.parse()?, id: id.parse()? }
            }
            _ => return Err(BadName::Spiffe),
        };
        Ok(Self { trust_domain, principal })
    }
}
