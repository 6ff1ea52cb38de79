//! A node's long-lived key, bound in the identity store with a generation.
//!
//! A renewal makes generation g+1 *pending*; g stays good until g+1 is first used. The same CSR asked again
//! at g gets the same answer. A key that shows up after its successor was used is a clone: the node is locked.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::UnixTime;

/// SHA-256 of a DER structure (a SubjectPublicKeyInfo, a CSR, a certificate), as 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 64 lower-case hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One generation of a node's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundKey {
    /// Fingerprint of the key's SubjectPublicKeyInfo.
    pub key: Fingerprint,
    /// Fingerprint of the CSR that brought the key.
    pub csr: Fingerprint,
    /// 1 for the key that joined.
    pub generation: u64,
    /// The issued chain, PEM, so that a lost answer can be given again.
    pub certificate: String,
}

/// Why a node is locked. Only an administrator's new join code ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lock {
    /// A key appeared after its successor had been used.
    Clone {
        /// Generation of the key that appeared.
        generation: u64,
        /// When it appeared.
        at: UnixTime,
    },
    /// An administrator revoked the node.
    Revoked {
        /// When.
        at: UnixTime,
    },
}

/// What the identity store keeps for one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The newest key that has been used.
    pub current: BoundKey,
    /// Issued but not yet used.
    pub pending: Option<BoundKey>,
    /// Keys that were current once, newest first, at most [`Binding::RETIRED_KEPT`].
    pub retired: Vec<BoundKey>,
    /// How often the node may still re-join after sleeping past its certificate.
    pub rejoins_left: u32,
    /// Set: nothing this node presents is accepted.
    pub lock: Option<Lock>,
}

/// What presenting a key means for the binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// The current key: nothing changes.
    Current,
    /// The pending key's first use: store this binding.
    Promoted(Binding),
    /// A retired key: store this locked binding and raise the alarm.
    Cloned(Binding),
    /// Locked before.
    Locked,
    /// Never bound to this node.
    Unknown,
}

/// A renewal that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The same CSR was answered before: give this certificate again.
    Again(BoundKey),
    /// Issue a certificate for this generation and pass it to [`Binding::renewed`].
    Issue {
        /// Generation of the key to be certified.
        generation: u64,
    },
}

/// Why no renewal is granted. The node's fault; a retry with the same input does not help.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RenewRefused {
    /// Locked.
    #[error("this node is locked; an administrator must issue a new join code")]
    Locked,
    /// The renewing connection did not use the current key.
    #[error("a renewal must be asked for with the current key")]
    NotCurrent,
}

/// Why no re-join is granted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RejoinRefused {
    /// Locked.
    #[error("this node is locked; an administrator must issue a new join code")]
    Locked,
    /// Not the newest key.
    #[error("only the node's newest key may re-join")]
    NotNewest,
    /// Budget spent.
    #[error("this node has used up its re-joins; an administrator must issue a new join code")]
    Spent,
}

impl Binding {
    /// How many retired keys are remembered to recognise clones.
    pub const RETIRED_KEPT: usize = 16;
    /// How often a node may re-join before an administrator must act.
    pub const REJOINS: u32 = 8;

    /// The binding of a node that has just joined.
    #[must_use]
    pub fn joined(current: BoundKey) -> Self {
        Self { current, pending: None, retired: Vec::new(), rejoins_left: Self::REJOINS, lock: None }
    }

    /// What it means that a peer proved possession of `key` at `now`.
    #[must_use]
    pub fn present(&self, key: &Fingerprint, now: UnixTime) -> Presented {
        if self.lock.is_some() {
            return Presented::Locked;
        }
        if self.current.key == *key {
            return Presented::Current;
        }
        if let Some(pending) = self.pending.as_ref().filter(|pending| pending.key == *key) {
            return Presented::Promoted(self.promoted(pending.clone()));
        }
        match self.retired.iter().find(|retired| retired.key == *key) {
            Some(retired) => {
                let lock = Some(Lock::Clone { generation: retired.generation, at: now });
                Presented::Cloned(Self { lock, ..self.clone() })
            }
            None => Presented::Unknown,
        }
    }

    /// Whether a peer that presented `key` may have `csr` (bringing its key) certified.
    ///
    /// # Errors
    /// [`RenewRefused`] when the node is locked or did not use its current key.
    pub fn renew(&self, key: &Fingerprint, csr: &Fingerprint) -> Result<Renewal, RenewRefused> {
        if self.lock.is_some() {
            return Err(RenewRefused::Locked);
        }
        if self.current.key != *key {
            return Err(RenewRefused::NotCurrent);
        }
        match &self.pending {
            Some(pending) if pending.csr == *csr => Ok(Renewal::Again(pending.clone())),
            _ => Ok(Renewal::Issue { generation: self.current.generation.saturating_add(1) }),
        }
    }

    /// The binding once `next` has been issued. An earlier pending key that was never used is forgotten.
    #[must_use]
    pub fn renewed(&self, next: BoundKey) -> Self {
        Self { pending: Some(next), ..self.clone() }
    }

    /// Whether the holder of `key`, whose certificate has expired, may have a fresh certificate for it.
    /// Gives the binding with one re-join less; the caller stores it with the new certificate.
    ///
    /// # Errors
    /// [`RejoinRefused`]; none of them is helped by a retry.
    pub fn rejoin(&self, key: &Fingerprint) -> Result<Self, RejoinRefused> {
        if self.lock.is_some() {
            return Err(RejoinRefused::Locked);
        }
        let promoted = match &self.pending {
            Some(pending) if pending.key == *key => self.promoted(pending.clone()),
            _ if self.current.key == *key => self.clone(),
            _ => return Err(RejoinRefused::NotNewest),
        };
        let rejoins_left = promoted.rejoins_left.checked_sub(1).ok_or(RejoinRefused::Spent)?;
        Ok(Self { rejoins_left, ..promoted })
    }

    fn promoted(&self, next: BoundKey) -> Self {
        let mut retired = vec![self.current.clone()];
        retired.extend(self.retired.iter().take(Self::RETIRED_KEPT.saturating_sub(1)).cloned());
        Self { current: next, pending: None, retired, rejoins_left: self.rejoins_left, lock: None }
    }
}
