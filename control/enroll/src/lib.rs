//! Who becomes a node or a hub, and who stays one: joining, renewing, re-joining, enrolling, checking in, passwords.
//!
//! Pure: a loaded record and a request in, a [`Decision`] out. The caller commits its changes first and only then
//! tells the answer; on a conflict it loads and decides again.

mod factor;
mod hub;
mod limit;
mod node;
mod presence;

pub use factor::{Factors, verified};
pub use hub::{HubRequest, checked_in, enroll_hub, reenroll_hub};
pub use limit::{Limit, Limiter};
pub use node::{NodeRequest, join, rejoin, renew};
pub use presence::{Presence, present};

use sluice_control_domain::ChangeSet;
use sluice_control_pki::{Authority, Leaf, PkiError, Serial};
use sluice_node_identity::{TrustDomain, UnixTime};
use thiserror::Error;

/// Why somebody gets no certificate. The texts say nothing about what exists.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The code is unknown, used by another key, too old, or for another role.
    #[error("this code is not accepted: it is wrong, used, expired or for another role; ask for a new one")]
    Code,
    /// The presented key is not (or no longer) the right one.
    #[error("this key is not accepted; an administrator can issue a new code")]
    Key,
    /// The request's key is of the wrong kind.
    #[error("the key is of the wrong kind: connectors use RSA of at least 3072 bits, all others ECDSA P-256")]
    Kind,
    /// A renewal with a key that was used before.
    #[error("a renewal must bring a key that was never used before")]
    OldKey,
    /// The authority failed.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl Refused {
    /// Stable name for [`sluice_node_identity::api::ErrorDetail::code`].
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Code => "code_refused",
            Self::Key => "key_refused",
            Self::Kind => "key_kind",
            Self::OldKey => "key_not_new",
            Self::Pki(_) => "certificate_failed",
        }
    }
}

/// What is to be written, and what is to be told once it is.
#[derive(Debug)]
#[must_use]
pub struct Decision<T> {
    /// To be committed before the answer is told; `None` when nothing changes.
    pub changes: Option<ChangeSet>,
    /// The answer.
    pub answer: Result<T, Refused>,
}

impl<T> Decision<T> {
    const fn just(answer: Result<T, Refused>) -> Self {
        Self { changes: None, answer }
    }

    const fn with(changes: ChangeSet, answer: Result<T, Refused>) -> Self {
        Self { changes: Some(changes), answer }
    }
}

/// What every decision that issues needs.
#[derive(Clone, Copy, Debug)]
pub struct Issuing<'a> {
    /// Who signs: the node root, or the tenant's hub root.
    pub authority: &'a Authority,
    /// Authority part of all names.
    pub trust_domain: &'a TrustDomain,
    /// The moment.
    pub now: UnixTime,
    /// For the certificate, should one be issued.
    pub serial: Serial,
}

impl Issuing<'_> {
    fn issue(&self, leaf: &Leaf<'_>) -> Result<String, Refused> {
        Ok(self.authority.issue(leaf, self.now, &self.serial)?.pem)
    }
}
