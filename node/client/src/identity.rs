//! Who this node is, as kept in `identity.json`.

use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use sluice_node_identity::{Fingerprint, Principal, SpiffeId, api::Joined};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::certificate::{self, Facts};

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

/// A private key, PKCS#8 PEM. Wiped from memory when dropped.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct PrivateKey(pub(crate) String);

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
    pub(crate) fn certified_key(&self) -> anyhow::Result<Arc<CertifiedKey>> {
        certified_key(&self.joined.chain, &self.key)
    }

    /// The identity after control certified `next` with `chain`; the present key becomes `previous`.
    ///
    /// # Errors
    /// When the chain is not for this node and that key.
    pub(crate) fn renewed(&self, next: &Next, chain: String) -> anyhow::Result<Self> {
        check(&self.spiffe(), &chain, &next.key)?;
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
pub(crate) fn check(spiffe: &SpiffeId, chain: &str, key: &PrivateKey) -> anyhow::Result<()> {
    let facts = Facts::of(&certificate::single(chain)?)?;
    ensure!(facts.spiffe.as_ref() == Some(spiffe), "control sent a certificate that does not name {spiffe}");
    certified_key(chain, key).map(drop)
}

fn certified_key(chain: &str, key: &PrivateKey) -> anyhow::Result<Arc<CertifiedKey>> {
    let key = PrivateKeyDer::from_pem_slice(key.0.as_bytes()).context("the stored key is damaged")?;
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(certificate::chain(chain)?, key, &provider)
        .context("the certificate is not for this node's key")?;
    Ok(Arc::new(certified))
}
