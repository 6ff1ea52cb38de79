//! Certificate requests (RFC 2986): only the key in them counts, and only when its holder signed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use const_oid::{
    ObjectIdentifier,
    db::rfc5912::{
        ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1,
        SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
    },
};
use der::{Decode, Encode, Reader, SliceReader, asn1::UintRef};
use sluice_node_identity::Fingerprint;
use x509_cert::{request::CertReq, spki::SubjectPublicKeyInfoOwned};

use crate::PkiError;

/// Longest request, bytes: an RSA-8192 key with some extensions fits.
pub const MAX_CSR: usize = 16 * 1024;
const MIN_RSA_BITS: usize = 3072;
const MAX_RSA_BITS: usize = 8192;

/// Kinds of keys that are certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// RSA, 3072 to 8192 bits.
    Rsa,
}

/// A request whose signature has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    der: Vec<u8>,
    spki: Vec<u8>,
    public: Vec<u8>,
    kind: KeyKind,
}

impl Csr {
    /// Reads and checks a request in PEM.
    ///
    /// # Errors
    /// [`PkiError::Csr`], [`PkiError::Key`] or [`PkiError::Proof`].
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        if text.len() > MAX_CSR.saturating_mul(2) {
            return Err(PkiError::Csr);
        }
        let pem = pem::parse(text).map_err(|_| PkiError::Csr)?;
        if !matches!(pem.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(PkiError::Csr);
        }
        Self::from_der(pem.contents())
    }

    /// Reads and checks a request in DER.
    ///
    /// # Errors
    /// [`PkiError::Csr`], [`PkiError::Key`] or [`PkiError::Proof`].
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > MAX_CSR {
            return Err(PkiError::Csr);
        }
        let request = CertReq::from_der(der).map_err(|_| PkiError::Csr)?;
        let spki = request.info.public_key.to_der().map_err(|_| PkiError::Csr)?;
        let (kind, public) = key(&request.info.public_key)?;
        let signed = request.info.to_der().map_err(|_| PkiError::Csr)?;
        let signature = request.signature.as_bytes().ok_or(PkiError::Csr)?;
        let algorithm = algorithm(kind, request.algorithm.oid).ok_or(PkiError::Proof)?;
        UnparsedPublicKey::new(algorithm, &public).verify(&signed, signature).map_err(|_| PkiError::Proof)?;
        Ok(Self { der: der.to_vec(), spki, public, kind })
    }

    /// The request, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Kind of its key.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Fingerprint of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn key(&self) -> Fingerprint {
        Fingerprint::of(&self.spki)
    }

    /// Fingerprint of the request itself.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// Checks a signature by the request's key: ECDSA/SHA-256 in ASN.1 or RSA PKCS#1 v1.5/SHA-256.
    ///
    /// # Errors
    /// [`PkiError::Proof`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), PkiError> {
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_ASN1,
            KeyKind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.public).verify(message, signature).map_err(|_| PkiError::Proof)
    }
}

fn algorithm(kind: KeyKind, signature: ObjectIdentifier) -> Option<&'static dyn VerificationAlgorithm> {
    match (kind, signature) {
        (KeyKind::P256, ECDSA_WITH_SHA_256) => Some(&ECDSA_P256_SHA256_ASN1),
        (KeyKind::P256, ECDSA_WITH_SHA_384) => Some(&ECDSA_P256_SHA384_ASN1),
        (KeyKind::Rsa, SHA_256_WITH_RSA_ENCRYPTION) => Some(&RSA_PKCS1_2048_8192_SHA256),
        (KeyKind::Rsa, SHA_384_WITH_RSA_ENCRYPTION) => Some(&RSA_PKCS1_2048_8192_SHA384),
        (KeyKind::Rsa, SHA_512_WITH_RSA_ENCRYPTION) => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

fn key(spki: &SubjectPublicKeyInfoOwned) -> Result<(KeyKind, Vec<u8>), PkiError> {
    let public = spki.subject_public_key.as_bytes().ok_or(PkiError::Key)?;
    match spki.algorithm.oid {
        ID_EC_PUBLIC_KEY => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
            // Uncompressed point: 0x04, x, y.
            let whole = public.len() == 65 && public.first() == Some(&4);
            if curve == Some(SECP_256_R_1) && whole { Ok((KeyKind::P256, public.to_vec())) } else { Err(PkiError::Key) }
        }
        RSA_ENCRYPTION => {
            let bits = rsa_bits(public).map_err(|_| PkiError::Key)?;
            if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                Ok((KeyKind::Rsa, public.to_vec()))
            } else {
                Err(PkiError::Key)
            }
        }
        _ => Err(PkiError::Key),
    }
}

fn rsa_bits(public: &[u8]) -> der::Result<usize> {
    let mut reader = SliceReader::new(public)?;
    let bits = reader.sequence(|inner| {
        let modulus = UintRef::decode(inner)?;
        let _exponent = UintRef::decode(inner)?;
        let bytes = modulus.as_bytes();
        let zeros = bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Ok(bytes.len().saturating_mul(8).saturating_sub(zeros))
    })?;
    reader.finish(bits)
}
