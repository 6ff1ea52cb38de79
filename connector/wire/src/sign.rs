//! The signing side: policy keys sign allow-lists, callers sign stream tokens.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PSS_SHA256, RsaKeyPair},
};
use serde_json::Value;
use sluice_node_identity::TenantId;
use thiserror::Error;
use x509_parser::{prelude::FromDer, public_key::RSAPublicKey};

use crate::{
    AllowList, Caller, CallerKind, SignedAllowList, StreamClaims,
    jwk::{BadKey, VerifyingKey, thumbprint},
    jws::{
        Header, TYP_ADOPTION, TYP_ALLOW_LIST, TYP_STREAM, TYP_SUCCESSION, Unverified, compact, signing_input,
        signing_input_of,
    },
    keeper::successor,
};

/// `iss` and caller id of control.
pub const CONTROL: &str = "control";
/// Longest proof of an adoption.
const MAX_SHORT: usize = 4096;

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// The private key cannot be read.
    #[error("the {0} private key cannot be read as PKCS#8; restore it from where it was made")]
    Key(&'static str),
    /// Its public half is not acceptable (too short).
    #[error(transparent)]
    PublicKey(#[from] BadKey),
    /// The claims name another caller than the one who signs.
    #[error("a token issued by '{claimed}' cannot be signed with the key of '{signer}'")]
    OtherIssuer {
        /// In the claims.
        claimed: String,
        /// Whose key it is.
        signer: String,
    },
    /// The cryptographic library failed.
    #[error("signing failed inside the cryptographic library")]
    Failed,
}

/// A tenant's policy key (P-256).
pub struct PolicyKey {
    pair: EcdsaKeyPair,
    public: VerifyingKey,
}

impl PolicyKey {
    /// Reads a P-256 private key (PKCS#8, DER).
    ///
    /// # Errors
    /// [`SignError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SignError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| SignError::Key("policy (P-256)"))?;
        let public = VerifyingKey::from_p256_point(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// Its public half.
    #[must_use]
    pub fn jwk(&self) -> Value {
        self.public.to_jwk()
    }

    /// RFC 7638 thumbprint of its public half; what a join code carries.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.public.thumbprint()
    }

    fn sign(&self, typ: &str, jwk: Option<Value>, payload: &impl serde::Serialize) -> Result<String, SignError> {
        let payload = serde_json::to_vec(payload).map_err(|_| SignError::Failed)?;
        self.sign_bytes(typ, jwk, &payload)
    }

    fn sign_bytes(&self, typ: &str, jwk: Option<Value>, payload: &[u8]) -> Result<String, SignError> {
        let header = Header {
            alg: self.public.algorithm().as_str().to_owned(),
            typ: typ.to_owned(),
            kid: self.thumbprint(),
            jwk,
        };
        let input = signing_input_of(&header, payload).map_err(|_| SignError::Failed)?;
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).map_err(|_| SignError::Failed)?;
        Ok(compact(&input, signature.as_ref()))
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyKey({})", self.thumbprint())
    }
}

/// Signs a list. `succession` leads from the key whose thumbprint the join codes carried to `key` (see
/// [`sign_succession`]); empty while there was only one.
///
/// # Errors
/// [`SignError::Failed`].
pub fn sign_allow_list(
    list: &AllowList,
    key: &PolicyKey,
    succession: Vec<String>,
) -> Result<SignedAllowList, SignError> {
    Ok(SignedAllowList { jws: key.sign(TYP_ALLOW_LIST, None, list)?, policy_key: key.jwk(), succession })
}

/// Signs a list that somebody else has written, byte for byte; gives [`SignedAllowList::jws`].
///
/// # Errors
/// [`SignError::Failed`].
pub fn sign_proposed_list(payload: &[u8], key: &PolicyKey) -> Result<String, SignError> {
    key.sign_bytes(TYP_ALLOW_LIST, None, payload)
}

/// Proof that whoever made it holds `key` and wants `tenant` to adopt it.
///
/// # Errors
/// [`SignError::Failed`].
pub fn sign_adoption(tenant: &TenantId, key: &PolicyKey) -> Result<String, SignError> {
    key.sign(TYP_ADOPTION, None, tenant)
}

/// Whether `proof` is one by [`sign_adoption`] with the key whose public half is `jwk`.
#[must_use]
pub fn adopts(proof: &str, tenant: &TenantId, jwk: &Value) -> bool {
    let key = VerifyingKey::from_jwk(jwk).ok().filter(|key| matches!(key, VerifyingKey::P256(_)));
    let proved = Unverified::parse(proof, MAX_SHORT, TYP_ADOPTION).ok();
    let proved = proved.zip(key).and_then(|(jws, key)| jws.verify::<TenantId>(&key).ok());
    proved.is_some_and(|proved| proved == *tenant)
}

/// Whether `step` is one by [`sign_succession`] that leads from the key `old` to the key `new`.
#[must_use]
pub fn succeeds(step: &str, old: &Value, new: &Value) -> bool {
    let ends = thumbprint(old).ok().zip(thumbprint(new).ok());
    ends.is_some_and(|(old, new)| successor(step, &old).is_ok_and(|found| found == new))
}

/// The next entry of [`SignedAllowList::succession`]: `old` says that `new` follows it.
///
/// # Errors
/// [`SignError`].
pub fn sign_succession(old: &PolicyKey, new: &Value) -> Result<String, SignError> {
    let new = VerifyingKey::from_jwk(new)?;
    old.sign(TYP_SUCCESSION, Some(old.jwk()), &new.to_jwk())
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// A caller's private key.
pub struct TokenSigner {
    id: String,
    kind: CallerKind,
    pair: Pair,
    public: VerifyingKey,
}

impl TokenSigner {
    /// A gateway's signer: `id` is its node id, the key Ed25519 (PKCS#8, DER, with or without the public half).
    ///
    /// # Errors
    /// [`SignError::Key`].
    pub fn gateway(id: impl Into<String>, pkcs8: &[u8]) -> Result<Self, SignError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| SignError::Key("caller (Ed25519)"))?;
        let public = VerifyingKey::from_ed25519(pair.public_key().as_ref())?;
        Ok(Self { id: id.into(), kind: CallerKind::Gateway, pair: Pair::Ed25519(pair), public })
    }

    /// Control's signer: an RSA key of at least 3072 bits (PKCS#8, DER).
    ///
    /// # Errors
    /// [`SignError`].
    pub fn control(pkcs8: &[u8]) -> Result<Self, SignError> {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| SignError::Key("caller (RSA)"))?;
        // The library shows the public half as PKCS#1 only.
        let (_, numbers) =
            RSAPublicKey::from_der(pair.public_key().as_ref()).map_err(|_| SignError::Key("caller (RSA)"))?;
        let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        let key = VerifyingKey::Rsa { n: number(numbers.modulus), e: number(numbers.exponent) };
        let public = VerifyingKey::from_jwk(&key.to_jwk())?;
        Ok(Self { id: CONTROL.to_owned(), kind: CallerKind::Control, pair: Pair::Rsa(pair), public })
    }

    /// The token's `iss`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half, as gateways register it with `POST /node/v1/keys`.
    #[must_use]
    pub fn jwk(&self) -> Value {
        self.public.to_jwk()
    }

    /// The record an allow-list needs to believe this signer.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::from_key(self.id.clone(), self.kind, &self.public)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigner({}, {})", self.id, self.public.thumbprint())
    }
}

impl Caller {
    /// The record of a caller with this public JWK: `kid` is its thumbprint, `alg` the one of its kind.
    ///
    /// # Errors
    /// [`BadKey`], also for a P-256 key, which signs no stream tokens.
    pub fn new(id: impl Into<String>, kind: CallerKind, jwk: &Value) -> Result<Self, BadKey> {
        let key = VerifyingKey::from_jwk(jwk)?;
        if matches!(key, VerifyingKey::P256(_)) {
            return Err(BadKey::Shape);
        }
        Ok(Self::from_key(id.into(), kind, &key))
    }

    fn from_key(id: String, kind: CallerKind, key: &VerifyingKey) -> Self {
        Self { id, kind, kid: key.thumbprint(), alg: key.algorithm().as_str().to_owned(), jwk: key.to_jwk() }
    }
}

/// Signs one stream token.
///
/// # Errors
/// [`SignError`].
pub fn sign_stream_token(claims: &StreamClaims, signer: &TokenSigner) -> Result<String, SignError> {
    if claims.iss != signer.id {
        return Err(SignError::OtherIssuer { claimed: claims.iss.clone(), signer: signer.id.clone() });
    }
    let header = Header {
        alg: signer.public.algorithm().as_str().to_owned(),
        typ: TYP_STREAM.to_owned(),
        kid: signer.public.thumbprint(),
        jwk: None,
    };
    let input = signing_input(&header, claims).map_err(|_| SignError::Failed)?;
    let signature = match &signer.pair {
        Pair::Ed25519(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
        Pair::Rsa(pair) => {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
                .map_err(|_| SignError::Failed)?;
            signature
        }
    };
    Ok(compact(&input, &signature))
}
