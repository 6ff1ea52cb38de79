//! The customer's policy key in a file of his: P-256, PKCS#8 as PEM, readable by nobody else.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use sluice_connector_wire::PolicyKey;
use zeroize::Zeroizing;

use crate::config::SecretFile;

const LABEL: &str = "PRIVATE KEY";

/// Makes a key and writes it to the new file `path`, mode 0600, durably.
pub(super) fn make(path: &Path) -> anyhow::Result<PolicyKey> {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let pair = pair.ok().context("the operating system gives no randomness")?;
    let der = Zeroizing::new(pair.as_ref().to_vec());
    let text = Zeroizing::new(pem::encode(&pem::Pem::new(LABEL, der.as_slice())));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}; it must not exist yet", path.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).context("cannot write the key")?;
    Ok(PolicyKey::from_pkcs8(&der)?)
}

/// Reads a key.
pub(super) fn read(path: &Path) -> anyhow::Result<PolicyKey> {
    let text = SecretFile::new(PathBuf::from(path)).read()?;
    let wrong = || format!("{} is no P-256 private key (PKCS#8, PEM)", path.display());
    let block = pem::parse(text.as_slice()).with_context(wrong)?;
    anyhow::ensure!(block.tag() == LABEL, wrong());
    let der = Zeroizing::new(block.into_contents());
    PolicyKey::from_pkcs8(&der).with_context(wrong)
}
