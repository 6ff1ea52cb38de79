//! Keys and certificates of one gateway and one connector, made for the occasion and kept in a folder.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use ipnetwork::IpNetwork;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs as provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use sluice_connector_wire::{
    AllowList, AllowRule, ConnectorDocument, GatewayEndpoint, PolicyKey, Target, TokenSigner, sign_allow_list,
};
use sluice_node_identity::{ResourceId, SpiffeId, UnixTime};

/// The gateway's id.
pub const GATEWAY: &str = "bench-gate";
/// The connector's id.
pub const CONNECTOR: &str = "bench-agent";

const TENANT: &str = "bench";
/// How long certificates and the list are good.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The folder with everything both ends need; a stand-in for control.
#[derive(Clone, Debug)]
pub struct House {
    folder: PathBuf,
}

/// Name of the gateway's certificate.
///
/// # Errors
/// Never in practice: the name is fixed.
pub fn gateway_name() -> Result<SpiffeId> {
    node_name("gateway", GATEWAY)
}

/// Name of the connector's certificate.
///
/// # Errors
/// Never in practice: the name is fixed.
pub fn connector_name() -> Result<SpiffeId> {
    node_name("connector", CONNECTOR)
}

fn node_name(role: &str, id: &str) -> Result<SpiffeId> {
    format!("spiffe://sluice.test/tenant/{TENANT}/{role}/{id}").parse().map_err(|why| anyhow!("{why}"))
}

/// Both ends name a target's resource the same way.
///
/// # Errors
/// The target is too long for a name.
pub fn resource(target: &Target) -> Result<ResourceId> {
    let label: String = target.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    label.replace("--", "-").trim_matches('-').parse().with_context(|| format!("{target} is too long"))
}

impl House {
    /// Makes all keys and certificates in `folder`, readable by its owner only.
    ///
    /// # Errors
    /// The folder cannot be written, or holds a house already.
    pub fn make(folder: &Path) -> Result<Self> {
        let house = Self { folder: folder.to_owned() };
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        house.write("root.der", root.der())?;
        for (what, name) in [("gateway", gateway_name()?), ("connector", connector_name()?)] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.subject_alt_names = vec![SanType::URI(name.to_string().try_into()?)];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.not_after = (SystemTime::now() + LIFE).into();
            house.write(&format!("{what}.der"), params.signed_by(&key, &root)?.der())?;
            house.write(&format!("{what}.key"), &key.serialize_der())?;
        }
        let random = SystemRandom::new();
        let caller = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| anyhow!("no caller key"))?;
        house.write("caller.key", caller.as_ref())?;
        let policy = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| anyhow!("no policy key"))?;
        house.write("policy.key", policy.as_ref())?;
        Ok(house)
    }

    /// One that was made before.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Root of both certificates.
    ///
    /// # Errors
    /// A file is missing.
    pub fn root(&self) -> Result<CertificateDer<'static>> {
        Ok(CertificateDer::from(self.read("root.der")?))
    }

    /// The gateway's certificate.
    ///
    /// # Errors
    /// A file is missing.
    pub fn gateway_leaf(&self) -> Result<Vec<u8>> {
        self.read("gateway.der")
    }

    /// The gateway's key for stream tokens.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn signer(&self) -> Result<TokenSigner> {
        Ok(TokenSigner::gateway(GATEWAY, &self.read("caller.key")?)?)
    }

    /// Thumbprint of the policy key, which a join code would have brought.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn policy_thumbprint(&self) -> Result<String> {
        Ok(self.policy()?.thumbprint())
    }

    /// TLS of the gateway towards agents.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn gateway_tls(&self, alpn: &[&[u8]]) -> Result<ServerConfig> {
        self.server("gateway", alpn)
    }

    /// TLS of the agent towards gateways.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn agent_client_tls(&self) -> Result<ClientConfig> {
        let shown = self.shown("connector")?;
        Ok(ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))))
    }

    /// TLS of the agent towards callers of sealed streams.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn agent_server_tls(&self) -> Result<ServerConfig> {
        self.server("connector", &[])
    }

    /// What control would send the agent: one gateway, a rule for each target, each of which may lie in `networks`.
    ///
    /// # Errors
    /// A file is missing or broken, or a target has no name.
    pub fn document(
        &self,
        gateway: SocketAddr,
        targets: &[Target],
        networks: &[IpNetwork],
    ) -> Result<ConnectorDocument> {
        let signer = self.signer()?;
        let rule = |target: &Target| {
            anyhow::Ok(AllowRule::new(resource(target)?, target, vec![GATEWAY.to_owned()], networks.to_vec()))
        };
        let now = UnixTime::from(SystemTime::now());
        let list = AllowList {
            tenant: TENANT.parse()?,
            connector: CONNECTOR.parse()?,
            epoch: 1,
            version: now.0,
            not_after: now.plus(LIFE.as_secs()),
            callers: vec![signer.caller()],
            rules: targets.iter().map(rule).collect::<Result<_>>()?,
        };
        let endpoint = GatewayEndpoint { id: GATEWAY.parse()?, host: gateway.ip().to_string(), port: gateway.port() };
        Ok(ConnectorDocument {
            gateways: vec![endpoint],
            allow_list: sign_allow_list(&list, &self.policy()?, Vec::new())?,
        })
    }

    fn server(&self, who: &str, alpn: &[&[u8]]) -> Result<ServerConfig> {
        let crypto = Arc::new(provider::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), crypto.clone());
        let mut config = ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(clients.build()?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.shown(who)?)));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    fn shown(&self, who: &str) -> Result<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.read(&format!("{who}.key"))?));
        let chain = vec![CertificateDer::from(self.read(&format!("{who}.der"))?)];
        Ok(CertifiedKey::new(chain, provider::sign::any_supported_type(&key)?))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()?)?;
        Ok(roots)
    }

    fn policy(&self) -> Result<PolicyKey> {
        Ok(PolicyKey::from_pkcs8(&self.read("policy.key")?)?)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}; make it with bench-house", path.display()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = made.with_context(|| format!("cannot create {}", path.display()))?;
        std::io::Write::write_all(&mut file, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{House, resource};

    #[test]
    fn a_target_has_one_resource_name() {
        let name = |target: &str| resource(&target.parse().unwrap()).unwrap().to_string();
        assert_eq!(name("tcp:10.1.2.3:80"), "tcp-10-1-2-3-80");
        assert_eq!(name("udp:[fd00::1]:53"), "udp-fd00-1-53");
    }

    #[test]
    fn a_house_is_made_once_and_opens_whole() {
        let folder = tempfile::tempdir().unwrap();
        House::make(folder.path()).unwrap();
        assert!(House::make(folder.path()).is_err(), "a second making would mix two houses");
        let house = House::open(folder.path());
        house.gateway_tls(&[b"x"]).unwrap();
        house.agent_client_tls().unwrap();
        let target = ["tcp:10.1.2.3:80".parse().unwrap()];
        let document = house.document("10.0.0.1:443".parse().unwrap(), &target, &[]).unwrap();
        assert_eq!(document.gateways.len(), 1);
    }
}
