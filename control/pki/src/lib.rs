//! Control's certificate authorities: roots, leaves for nodes, hubs and control itself, requests (PKCS#10), CMS.
//!
//! Pure: keys, times and serial numbers are passed in. (ECDSA draws its nonces inside the cryptographic library.)

mod authority;
mod cms;
mod csr;
mod facts;

pub use authority::{Authority, HUB_SECONDS, Issued, Leaf, NODE_SECONDS, ROOT_SECONDS, SERVER_SECONDS, Serial, Usage};
pub use cms::certs_only;
pub use csr::{Csr, KeyKind, MAX_CSR};
pub use facts::{CertFacts, pem_chain};

use thiserror::Error;

/// Why a certificate was not issued or not read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PkiError {
    /// Not a certificate signing request.
    #[error("this is not a PKCS#10 certificate request; send one of at most {MAX_CSR} bytes, DER or PEM")]
    Csr,
    /// Its key is not of an accepted kind.
    #[error("the request's key is neither ECDSA P-256 nor RSA of 3072 to 8192 bits; make another key")]
    Key,
    /// Whoever made the request does not hold the key.
    #[error("the signature does not fit the request's key; sign it with the key it names")]
    Proof,
    /// A certificate of our own cannot be read.
    #[error("a certificate cannot be read: {0}")]
    Certificate(String),
    /// The authority's key does not fit its certificate, or signing failed.
    #[error("the certificate authority failed: {0}")]
    Authority(String),
}
