//! Roots and what they sign (RFC 5280; X509-SVID §3 to §5).

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use sluice_node_identity::{Fingerprint, Principal, SpiffeId, UnixTime};
use time::OffsetDateTime;

use crate::{CertFacts, PkiError};

/// Seconds a root is good for: ten years.
pub const ROOT_SECONDS: u64 = 10 * 365 * DAY;
/// Seconds a node's certificate is good for: a week.
pub const NODE_SECONDS: u64 = 7 * DAY;
/// Seconds a hub's certificate is good for: a year.
pub const HUB_SECONDS: u64 = 365 * DAY;
/// Seconds one of control's own server certificates is good for: a week, like a node's.
pub const SERVER_SECONDS: u64 = 7 * DAY;
const DAY: u64 = 24 * 3600;
/// Certificates begin a little before they are made: clocks of hubs are not exact.
const BACKDATED: u64 = 300;

/// 128 bits from the operating system's random source.
pub type Serial = [u8; 16];

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// TLS client.
    Client,
    /// TLS server.
    Server,
    /// Both.
    Both,
}

/// What is to be certified. Nothing in it comes from a request but the key.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// SubjectPublicKeyInfo, DER.
    pub key: &'a [u8],
    /// URI name; also gives the subject's common name.
    pub name: Option<SpiffeId>,
    /// DNS names.
    pub hosts: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Extended key usage.
    pub usage: Usage,
    /// How long it is good for.
    pub seconds: u64,
}

/// A certificate just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// DER.
    pub der: Vec<u8>,
    /// PEM.
    pub pem: String,
    /// Last second it is good for.
    pub not_after: UnixTime,
}

/// A root with its private key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    pem: String,
    pin: Fingerprint,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.pin)
    }
}

fn failed(error: impl std::fmt::Display) -> PkiError {
    PkiError::Authority(error.to_string())
}

fn moment(at: UnixTime) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(at.0).map_err(failed)?).map_err(failed)
}

fn params(from: UnixTime, until: UnixTime, serial: &Serial) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = moment(from)?;
    params.not_after = moment(until)?;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

impl Authority {
    /// Makes the root of `key` (P-256, PKCS#8, DER), called `common_name`, for ten years. It signs leaves only.
    ///
    /// # Errors
    /// [`PkiError::Authority`] when the key cannot be used.
    pub fn create(common_name: &str, key: &[u8], now: UnixTime, serial: &Serial) -> Result<Self, PkiError> {
        let pair = KeyPair::try_from(key).map_err(failed)?;
        let from = UnixTime(now.0.saturating_sub(BACKDATED));
        let mut params = params(from, now.plus(ROOT_SECONDS), serial)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&pair).map_err(failed)?;
        Self::open(key, &certificate.pem())
    }

    /// Takes a root back into use.
    ///
    /// # Errors
    /// [`PkiError`] when key and certificate cannot be read or do not belong together.
    pub fn open(key: &[u8], certificate: &str) -> Result<Self, PkiError> {
        let pair = KeyPair::try_from(key).map_err(failed)?;
        let der = pem::parse(certificate).map_err(|error| PkiError::Certificate(error.to_string()))?.into_contents();
        let facts = CertFacts::of(&der)?;
        if facts.key != Fingerprint::of(&pair.subject_public_key_info()) {
            return Err(failed("the private key is not the certificate's"));
        }
        let issuer = Issuer::from_ca_cert_der(&der.as_slice().into(), pair).map_err(failed)?;
        Ok(Self { issuer, der, pem: certificate.to_owned(), pin: facts.key })
    }

    /// The root's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The root's certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Fingerprint of the root's SubjectPublicKeyInfo.
    #[must_use]
    pub const fn pin(&self) -> &Fingerprint {
        &self.pin
    }

    /// Certifies `leaf`.
    ///
    /// # Errors
    /// [`PkiError::Key`] when the key is of no accepted kind, [`PkiError::Authority`] when signing fails.
    pub fn issue(&self, leaf: &Leaf<'_>, now: UnixTime, serial: &Serial) -> Result<Issued, PkiError> {
        let key = SubjectPublicKeyInfo::from_der(leaf.key).map_err(|_| PkiError::Key)?;
        let until = now.plus(leaf.seconds);
        let mut params = params(UnixTime(now.0.saturating_sub(BACKDATED)), until, serial)?;
        if let Some(name) = &leaf.name {
            params.distinguished_name.push(DnType::CommonName, common_name(name));
            params.subject_alt_names.push(SanType::URI(name.to_string().try_into().map_err(failed)?));
        } else if let Some(host) = leaf.hosts.first() {
            // RFC 5280 bounds a common name to 64 characters; longer hosts stand in the DNS name only.
            params.distinguished_name.push(DnType::CommonName, host.chars().take(64).collect::<String>());
        }
        for host in &leaf.hosts {
            params.subject_alt_names.push(SanType::DnsName(host.clone().try_into().map_err(failed)?));
        }
        params.subject_alt_names.extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match leaf.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { der: certificate.der().to_vec(), pem: certificate.pem(), not_after: until })
    }
}

fn common_name(name: &SpiffeId) -> String {
    match &name.principal {
        Principal::Control => "control".to_owned(),
        Principal::Node { id, .. } => id.to_string(),
        Principal::Hub { id, .. } => id.to_string(),
    }
}
