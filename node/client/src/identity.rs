//! Who this node is, as kept in `identity.json`.

use std::sync::Arc;

use anyhow::ensure;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use sluice_node_identity::{Fingerprint, Principal, SpiffeId, api::Joined};

use crate::{
    certificate::{self, Facts},
    key::{Keys, PrivateKey},
};

/// A joined node's identity. One file, so that key and certificate never part.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// Control's node API, `https://host[:port]`.
    pub(crate) url: String,
    /// Digest of the join code that made this identity.
    pub(crate) code: Fingerprint,
    /// What control said. Its `chain` is the certificate in use.
    pub(crate) joined: Joined,
    /// The key in use.
    pub(crate) key: PrivateKey,
    /// The key and chain before, kept until control has accepted the new ones.
    pub(crate) previous: Option<Previous>,
    /// A renewal that was begun: the same request is asked again after a crash.
    pub(crate) next: Option<Next>,
}

/// Key and chain that were in use before.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Previous {
    pub(crate) key: PrivateKey,
    pub(crate) chain: String,
}

/// Key and request of a renewal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Next {
    pub(crate) key: PrivateKey,
    pub(crate) csr: String,
}

impl Identity {
    pub(crate) const FILE: &str = "identity.json";

    /// The name its certificates must carry.
    pub(crate) fn spiffe(&self) -> SpiffeId {
        spiffe(&self.joined)
    }

    /// Facts of the certificate in use.
    pub(crate) fn facts(&self) -> anyhow::Result<Facts> {
        Facts::of(&certificate::single(&self.joined.chain)?)
    }

    /// Chain and key, ready for TLS.
    pub(crate) fn certified_key(&self, keys: &Keys) -> anyhow::Result<Arc<CertifiedKey>> {
        keys.certified(&self.joined.chain, &self.key)
    }

    /// Every key that it needs or may need again.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &PrivateKey> {
        let previous = self.previous.as_ref().map(|previous| &previous.key);
        [Some(&self.key), previous, self.next.as_ref().map(|next| &next.key)].into_iter().flatten()
    }

    /// The identity after control certified `next` with `chain`; the present key becomes `previous`.
    ///
    /// # Errors
    /// When the chain is not for this node and that key.
    pub(crate) fn renewed(&self, keys: &Keys, next: &Next, chain: String) -> anyhow::Result<Self> {
        check(keys, &self.spiffe(), &chain, &next.key)?;
        let previous = Some(Previous { key: self.key.clone(), chain: self.joined.chain.clone() });
        let joined = Joined { chain, ..self.joined.clone() };
        Ok(Self { joined, key: next.key.clone(), previous, next: None, ..self.clone() })
    }

    /// Back to the key before, when control does not know the new one.
    pub(crate) fn reverted(&self) -> Option<Self> {
        let previous = self.previous.clone()?;
        let joined = Joined { chain: previous.chain, ..self.joined.clone() };
        Some(Self { joined, key: previous.key, previous: None, next: None, ..self.clone() })
    }
}

/// The SPIFFE ID of a joined node.
pub(crate) fn spiffe(joined: &Joined) -> SpiffeId {
    SpiffeId {
        trust_domain: joined.trust_domain.clone(),
        principal: Principal::Node { tenant: joined.tenant.clone(), role: joined.role, id: joined.id.clone() },
    }
}

/// Whether `chain`'s leaf names `spiffe` and carries `key`.
pub(crate) fn check(keys: &Keys, spiffe: &SpiffeId, chain: &str, key: &PrivateKey) -> anyhow::Result<()> {
    let facts = Facts::of(&certificate::single(chain)?)?;
    ensure!(facts.spiffe.as_ref() == Some(spiffe), "control sent a certificate that does not name {spiffe}");
    keys.certified(chain, key).map(drop)
}
