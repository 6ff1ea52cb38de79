//! Sealing: KEK → tenant key → a key of each record's own, every step bound to what it is for.

use serde::{Deserialize, Serialize};
use sluice_node_identity::{IntegrationId, TenantId, UserId};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::{Key, Nonce, prefixed};

/// First byte of every sealed thing.
const FORMAT: u8 = 1;
/// A sealed 32-byte key: itself and a 16-byte tag.
const SEALED_KEY: usize = 48;

/// Not what was sealed under this key and name. Says no more on purpose.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the record cannot be opened: it was altered, or belongs to another key, tenant, owner or version")]
pub struct Unsealable;

/// Whose credential it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The integration's service account.
    Service,
    /// One user's own.
    User(UserId),
}

impl Owner {
    /// `service`, or `user/<id>`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Service => "service".to_owned(),
            Self::User(user) => format!("user/{user}"),
        }
    }
}

/// What a sealed record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordName {
    /// Whose customer.
    pub tenant: TenantId,
    /// For which system of record.
    pub integration: IntegrationId,
    /// Whose credential.
    pub owner: Owner,
    /// One more with every write.
    pub version: u64,
}

impl RecordName {
    fn aad(&self, purpose: &str) -> Vec<u8> {
        let version = self.version.to_string();
        prefixed(purpose, &[self.tenant.as_str(), self.integration.as_str(), &self.owner.text(), &version])
    }

    /// Where the record is kept: tells nothing without the tenant's key.
    #[must_use]
    pub fn place(&self, tenant_key: &Key) -> [u8; 32] {
        tenant_key.mac("place", &[self.tenant.as_str(), self.integration.as_str(), &self.owner.text()])
    }
}

/// Random bytes for one sealing.
#[derive(Clone)]
pub struct SealRandom {
    /// The record's own key.
    pub key: Key,
    /// For the record's key under the tenant's.
    pub key_nonce: Nonce,
    /// For the record under its own key.
    pub nonce: Nonce,
}

/// Seals a record.
///
/// # Errors
/// [`Unsealable`] only when the record is too long for AES-GCM.
pub fn seal(tenant_key: &Key, name: &RecordName, plain: &[u8], random: &SealRandom) -> Result<Vec<u8>, Unsealable> {
    let sealed_key = tenant_key.encrypt(random.key_nonce, &name.aad("record key"), random.key.bytes())?;
    let body = random.key.encrypt(random.nonce, &name.aad("record"), plain)?;
    Ok([&[FORMAT][..], &random.key_nonce, &sealed_key, &random.nonce, &body].concat())
}

/// Opens a record sealed under the same key and name.
///
/// # Errors
/// [`Unsealable`].
pub fn open(tenant_key: &Key, name: &RecordName, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
    let rest = sealed.strip_prefix(&[FORMAT]).ok_or(Unsealable)?;
    let (key_nonce, rest) = rest.split_first_chunk::<12>().ok_or(Unsealable)?;
    let (sealed_key, rest) = rest.split_first_chunk::<SEALED_KEY>().ok_or(Unsealable)?;
    let (nonce, body) = rest.split_first_chunk::<12>().ok_or(Unsealable)?;
    let key = Key::from_slice(&tenant_key.decrypt(*key_nonce, &name.aad("record key"), sealed_key)?)?;
    key.decrypt(*nonce, &name.aad("record"), body)
}

/// Seals a tenant's key under the KEK.
///
/// # Errors
/// Never in practice; see [`seal`].
pub fn seal_tenant_key(kek: &Key, tenant: &TenantId, key: &Key, nonce: Nonce) -> Result<Vec<u8>, Unsealable> {
    let sealed = kek.encrypt(nonce, &prefixed("tenant key", &[tenant.as_str()]), key.bytes())?;
    Ok([&[FORMAT][..], &nonce, &sealed].concat())
}

/// Opens a tenant's key.
///
/// # Errors
/// [`Unsealable`].
pub fn open_tenant_key(kek: &Key, tenant: &TenantId, sealed: &[u8]) -> Result<Key, Unsealable> {
    let rest = sealed.strip_prefix(&[FORMAT]).ok_or(Unsealable)?;
    let (nonce, body) = rest.split_first_chunk::<12>().ok_or(Unsealable)?;
    Key::from_slice(&kek.decrypt(*nonce, &prefixed("tenant key", &[tenant.as_str()]), body)?)
}
