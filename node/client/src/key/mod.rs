//! A node's keys: RSA-3072 for connectors, P-256 for the others; kept in the identity's file, or made and used in a
//! PKCS#11 token that never gives them out.

mod module;
mod token;

use std::sync::Arc;

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SigningKey,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use sluice_node_identity::{Role, proof_message};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::certificate;
use token::{Token, TokenKey};
pub use token::{TokenSettings, look_for_token};

/// A private key as kept: PKCS#8 PEM, or `pkcs11:id=<hex>` for one that is in the token. Wiped from memory when
/// dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct PrivateKey(String);

/// How a key in a token is written down.
const IN_TOKEN: &str = "pkcs11:id=";

/// Makes keys and finds them again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    token: Option<Arc<Token>>,
}

/// A key that can sign.
#[derive(Debug)]
enum Usable {
    Pem(Box<KeyPair>),
    Token(Arc<TokenKey>),
}

impl Keys {
    /// New keys are made in the token, when there is one; keys in files are read in any case.
    ///
    /// # Errors
    /// The module does not work, there is no such token, or it does not take the PIN.
    pub(crate) fn open(token: Option<&TokenSettings>) -> anyhow::Result<Self> {
        let token = token.map(Token::open).transpose().context("the node's PKCS#11 token")?;
        Ok(Self { token: token.map(Arc::new) })
    }

    /// Makes a new key for a node of `role`. RSA takes a second of computing.
    pub(crate) fn generate(&self, role: Role) -> anyhow::Result<PrivateKey> {
        if let Some(token) = &self.token {
            let id = token.generate().context("cannot make a key in the token")?;
            return Ok(PrivateKey(format!("{IN_TOKEN}{}", hex(&id))));
        }
        let key = match role {
            Role::Connector => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
            Role::Gateway | Role::Edge => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        };
        Ok(PrivateKey(key.context("cannot make a key")?.serialize_pem()))
    }

    /// A certificate request (PKCS#10, PEM) for `key`. It asks for nothing: control decides the names.
    pub(crate) fn request(&self, key: &PrivateKey) -> anyhow::Result<String> {
        let request = CertificateParams::default().serialize_request(&self.find(key)?);
        request.context("cannot make a request")?.pem().context("cannot write the request")
    }

    /// Proof of possession of `key` over control's nonce and this request (`JoinRequest::proof`).
    pub(crate) fn proof(&self, key: &PrivateKey, request_pem: &str, nonce: &str) -> anyhow::Result<String> {
        let nonce = URL_SAFE_NO_PAD.decode(nonce).context("control's nonce is not base64url")?;
        let request = CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes());
        let request = request.context("not a PEM request")?;
        let signature = self.find(key)?.sign(&proof_message(&nonce, &request)).context("cannot sign")?;
        Ok(URL_SAFE_NO_PAD.encode(signature))
    }

    /// Chain and key, ready for TLS.
    ///
    /// # Errors
    /// Also when the chain's leaf is for another key.
    pub(crate) fn certified(&self, chain: &str, key: &PrivateKey) -> anyhow::Result<Arc<CertifiedKey>> {
        let chain = certificate::chain(chain)?;
        let certified = match self.find(key)? {
            Usable::Token(key) => CertifiedKey::new(chain, TokenKey::for_tls(key)),
            Usable::Pem(_) => {
                let key = PrivateKeyDer::from_pem_slice(key.0.as_bytes()).context("the stored key is damaged")?;
                let key = aws_lc_rs::sign::any_supported_type(&key).context("the stored key cannot sign")?;
                CertifiedKey::new(chain, key)
            }
        };
        certified.keys_match().context("the certificate is not for this node's key")?;
        Ok(Arc::new(certified))
    }

    /// Destroys a key that is in the token and is used no more. That it is gone already is fine.
    pub(crate) fn forget(&self, key: &PrivateKey) -> anyhow::Result<()> {
        match (&self.token, id(key)?) {
            (Some(token), Some(id)) => token.destroy(&id).context("cannot destroy a former key in the token"),
            (_, None) | (None, _) => Ok(()),
        }
    }

    fn find(&self, key: &PrivateKey) -> anyhow::Result<Usable> {
        let Some(id) = id(key)? else {
            let key = KeyPair::from_pem(&key.0).context("the stored key is damaged")?;
            return Ok(Usable::Pem(Box::new(key)));
        };
        let token = self.token.as_ref();
        let token = token.context("this node's key is in a PKCS#11 token; name it in the configuration (key)")?;
        token.find(&id).map(|key| Usable::Token(Arc::new(key)))
    }
}

impl PublicKeyData for Usable {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Pem(pair) => pair.der_bytes(),
            Self::Token(key) => key.public(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::Pem(pair) => pair.algorithm(),
            Self::Token(_) => &PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for Usable {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Pem(pair) => pair.sign(message),
            Self::Token(key) => key.sign_pkcs1(message).map_err(|error| {
                tracing::error!("the token did not sign: {error:#}");
                rcgen::Error::RemoteKeyError
            }),
        }
    }
}

/// The key's id in the token; `None` when it is not there but written out.
fn id(key: &PrivateKey) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(text) = key.0.strip_prefix(IN_TOKEN) else { return Ok(None) };
    let digits =
        (0..text.len()).step_by(2).map(|at| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok()));
    digits.collect::<Option<Vec<u8>>>().map(Some).context("the stored reference to a key in the token is damaged")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
