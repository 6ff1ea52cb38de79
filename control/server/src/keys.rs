//! Control's own keys: made once into the keystore, used through types that cannot be printed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, ensure};
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use serde_json::Value;
use sluice_connector_wire::{PolicyKey, TokenSigner, sign_succession, thumbprint};
use sluice_control_domain::Tenant;
use sluice_control_keystore::Keystore;
use sluice_control_pki::{Authority, Leaf, NODE_SECONDS, SERVER_SECONDS, Serial, Usage};
use sluice_node_identity::{Fingerprint, NodeId, Principal, SpiffeId, TenantId, TrustDomain, UnixTime};
use zeroize::Zeroizing;

use crate::admin_api::{self, NewTenantKeys};

const NODE_ROOT: &str = "ca/node-root";
const NODE_ROOT_CERTIFICATE: &str = "ca/node-root-cert";
const CALLER: &str = "caller/control";
const STORE: &str = "platform/store";

/// Everything in the keystore that control's wire side needs.
pub struct ControlKeys {
    keystore: Arc<Keystore>,
    node_root: Authority,
    caller: TokenSigner,
    trust_domain: TrustDomain,
    node_url: String,
    hub_roots: Mutex<HashMap<TenantId, Arc<Authority>>>,
}

impl std::fmt::Debug for ControlKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlKeys").field("node_root", &self.node_root).finish_non_exhaustive()
    }
}

/// `N` bytes from the operating system.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok().context("the operating system gave no random bytes")?;
    Ok(bytes)
}

/// A random serial number.
pub(crate) fn serial() -> anyhow::Result<Serial> {
    random()
}

fn p256() -> anyhow::Result<(KeyPair, Zeroizing<Vec<u8>>)> {
    let pair = KeyPair::generate().context("make a P-256 key")?;
    let der = Zeroizing::new(pair.serialize_der());
    Ok((pair, der))
}

impl ControlKeys {
    /// Makes the platform's keys in a new keystore: node root, stream-token key, database key.
    ///
    /// # Errors
    /// When they exist already or the keystore cannot be written.
    pub fn create(keystore: &Keystore, now: UnixTime) -> anyhow::Result<()> {
        ensure!(!keystore.contains(NODE_ROOT)?, "the keystore already holds a node root");
        let (_, key) = p256()?;
        let root = Authority::create("sluice node root", &key, now, &serial()?)?;
        keystore.put(STORE, &Zeroizing::new(random::<32>()?)[..])?;
        let caller =
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072).context("make an RSA key")?;
        keystore.put(CALLER, &Zeroizing::new(caller.serialize_der()))?;
        keystore.put(NODE_ROOT_CERTIFICATE, root.pem().as_bytes())?;
        keystore.put(NODE_ROOT, &key)?;
        Ok(())
    }

    /// The database's key.
    ///
    /// # Errors
    /// When the keystore does not hold it.
    pub fn store_key(keystore: &Keystore) -> anyhow::Result<Zeroizing<[u8; 32]>> {
        let key = keystore.secret(STORE)?;
        Ok(Zeroizing::new(key.as_slice().try_into().context("the database key is not 32 bytes long")?))
    }

    /// Opens the platform's keys. `node_url` is the node API's address as it stands in join codes.
    ///
    /// # Errors
    /// When one of them is missing or damaged.
    pub fn open(keystore: Arc<Keystore>, trust_domain: TrustDomain, node_url: String) -> anyhow::Result<Self> {
        let certificate = keystore.secret(NODE_ROOT_CERTIFICATE)?;
        let certificate = std::str::from_utf8(&certificate).context("the node root's certificate is not text")?;
        let node_root = Authority::open(&keystore.secret(NODE_ROOT)?, certificate)?;
        let caller = TokenSigner::control(&keystore.secret(CALLER)?)?;
        Ok(Self { keystore, node_root, caller, trust_domain, node_url, hub_roots: Mutex::default() })
    }

    /// The keystore.
    #[must_use]
    pub const fn keystore(&self) -> &Arc<Keystore> {
        &self.keystore
    }

    /// The root of all nodes and of control's own server certificates.
    #[must_use]
    pub const fn node_root(&self) -> &Authority {
        &self.node_root
    }

    /// Signs stream tokens as `control`.
    #[must_use]
    pub const fn caller(&self) -> &TokenSigner {
        &self.caller
    }

    /// Control's public key for stream tokens, JWK.
    #[must_use]
    pub fn caller_jwk(&self) -> Value {
        self.caller.caller().jwk
    }

    /// Authority part of all names.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root of a tenant's hubs.
    ///
    /// # Errors
    /// When the keystore does not hold its key.
    pub fn hub_root(&self, tenant: &Tenant) -> anyhow::Result<Arc<Authority>> {
        let mut roots = self.hub_roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = roots.get(&tenant.id).filter(|root| root.pem() == tenant.hub_root) {
            return Ok(root.clone());
        }
        let key = self.keystore.secret(&format!("tenant/{}/hub-root", tenant.id))?;
        let root = Arc::new(Authority::open(&key, &tenant.hub_root)?);
        roots.insert(tenant.id.clone(), root.clone());
        Ok(root)
    }

    /// A tenant's policy key.
    ///
    /// # Errors
    /// When the keystore does not hold it.
    pub fn policy_key(&self, tenant: &TenantId) -> anyhow::Result<PolicyKey> {
        Ok(PolicyKey::from_pkcs8(&self.keystore.secret(&format!("tenant/{tenant}/policy"))?)?)
    }

    /// Whether the keystore holds a tenant's policy key, readable or not.
    ///
    /// # Errors
    /// When the keystore cannot be looked into.
    pub fn has_policy_key(&self, tenant: &TenantId) -> anyhow::Result<bool> {
        Ok(self.keystore.contains(&format!("tenant/{tenant}/policy"))?)
    }

    /// The session key of one gateway, base64url.
    ///
    /// # Errors
    /// When the keystore does not hold the tenant's data key.
    pub fn session_key(&self, tenant: &TenantId, gateway: &NodeId) -> anyhow::Result<String> {
        let key = self.keystore.derive(&format!("tenant/{tenant}/data"), &format!("session/{gateway}"))?;
        Ok(URL_SAFE_NO_PAD.encode(key.as_ref()))
    }

    /// A fresh key and certificate by which nodes know control as a TLS client (`spiffe://<trust domain>/control`),
    /// good for a week; and the last second it is good for. Nothing of it is kept.
    ///
    /// # Errors
    /// When the operating system or the cryptographic library fails.
    pub fn client_identity(&self, now: UnixTime) -> anyhow::Result<(CertifiedKey, UnixTime)> {
        let (pair, key) = p256()?;
        let name = SpiffeId { trust_domain: self.trust_domain.clone(), principal: Principal::Control };
        let leaf = Leaf {
            key: &pair.subject_public_key_info(),
            name: Some(name),
            hosts: Vec::new(),
            addresses: Vec::new(),
            usage: Usage::Client,
            seconds: NODE_SECONDS,
        };
        certified(&self.node_root, &leaf, &key, now)
    }

    /// A fresh key and server certificate for `host`, issued by `authority`, with the root in its chain.
    pub(crate) fn server_identity(
        authority: &Authority,
        host: &str,
        now: UnixTime,
    ) -> anyhow::Result<(CertifiedKey, UnixTime)> {
        let (pair, key) = p256()?;
        let leaf = Leaf {
            key: &pair.subject_public_key_info(),
            name: None,
            hosts: vec![host.to_owned()],
            addresses: Vec::new(),
            usage: Usage::Server,
            seconds: SERVER_SECONDS,
        };
        certified(authority, &leaf, &key, now)
    }
}

fn certified(
    authority: &Authority,
    leaf: &Leaf<'_>,
    key: &[u8],
    now: UnixTime,
) -> anyhow::Result<(CertifiedKey, UnixTime)> {
    let issued = authority.issue(leaf, now, &serial()?)?;
    let chain = vec![CertificateDer::from(issued.der), CertificateDer::from(authority.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok((CertifiedKey::from_der(chain, key, &provider)?, issued.not_after))
}

impl admin_api::Authority for ControlKeys {
    fn make_tenant(&self, tenant: &TenantId, now: UnixTime) -> Result<NewTenantKeys, String> {
        let make = || -> anyhow::Result<NewTenantKeys> {
            let (_, hub_key) = p256()?;
            let root = Authority::create(&format!("sluice hubs of {tenant}"), &hub_key, now, &serial()?)?;
            let (_, policy) = p256()?;
            let public = PolicyKey::from_pkcs8(&policy)?.jwk();
            self.keystore.put(&format!("tenant/{tenant}/hub-root"), &hub_key)?;
            self.keystore.put(&format!("tenant/{tenant}/policy"), &policy)?;
            self.keystore.put(&format!("tenant/{tenant}/data"), &Zeroizing::new(random::<32>()?)[..])?;
            Ok(NewTenantKeys { hub_root: root.pem().to_owned(), policy_key: public })
        };
        make().map_err(|error| format!("{error:#}"))
    }

    fn node_root_pin(&self) -> Fingerprint {
        self.node_root.pin().clone()
    }

    fn thumbprint(&self, jwk: &Value) -> Result<String, String> {
        thumbprint(jwk).map_err(|error| error.to_string())
    }

    fn node_url(&self) -> String {
        self.node_url.clone()
    }

    fn caller_jwk(&self) -> Value {
        Self::caller_jwk(self)
    }

    fn sign_succession(&self, tenant: &TenantId, new: &Value) -> Result<String, String> {
        let old = self.policy_key(tenant).map_err(|error| format!("{error:#}"))?;
        sign_succession(&old, new).map_err(|error| error.to_string())
    }

    fn forget_policy_key(&self, tenant: &TenantId) -> Result<(), String> {
        self.keystore.remove(&format!("tenant/{tenant}/policy")).map_err(|error| error.to_string())
    }
}
