//! A node's keys: RSA-3072 for connectors, P-256 for the others.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SigningKey};
use sluice_node_identity::{Role, proof_message};
use zeroize::Zeroizing;

/// Makes a new key for a node of `role`; gives it as PKCS#8 PEM. RSA takes a second of computing.
pub(crate) fn generate(role: Role) -> anyhow::Result<Zeroizing<String>> {
    let key = match role {
        Role::Connector => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        Role::Gateway | Role::Edge => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
    };
    Ok(Zeroizing::new(key.context("cannot make a key")?.serialize_pem()))
}

/// A certificate request (PKCS#10, PEM) for `key`. It asks for nothing: control decides the names.
pub(crate) fn request(key: &str) -> anyhow::Result<String> {
    let request = CertificateParams::default().serialize_request(&read(key)?).context("cannot make a request")?;
    request.pem().context("cannot write the request")
}

/// Proof of possession of `key` over control's nonce and this request (`JoinRequest::proof`).
pub(crate) fn proof(key: &str, request_pem: &str, nonce: &str) -> anyhow::Result<String> {
    let nonce = URL_SAFE_NO_PAD.decode(nonce).context("control's nonce is not base64url")?;
    let request = pem_body(request_pem)?;
    let signature = read(key)?.sign(&proof_message(&nonce, &request)).context("cannot sign")?;
    Ok(URL_SAFE_NO_PAD.encode(signature))
}

fn read(key: &str) -> anyhow::Result<KeyPair> {
    KeyPair::from_pem(key).context("the stored key is damaged")
}

fn pem_body(text: &str) -> anyhow::Result<Vec<u8>> {
    use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
    let request = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).context("not a PEM request")?;
    Ok(request.as_ref().to_vec())
}
