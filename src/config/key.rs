//! The `[key]` table: a node's key in a PKCS#11 token.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_node_client::TokenSettings;
use zeroize::Zeroizing;

use super::{SecretFile, secret::SecretError};

/// Which token, and how to get in. RSA-3072 keys are made in it, cannot leave it, and sign there; the module must
/// speak `CKM_RSA_PKCS_KEY_PAIR_GEN`, `CKM_SHA256_RSA_PKCS` and `CKM_SHA256_RSA_PKCS_PSS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySection {
    /// The maker's shared library, such as `/usr/lib/softhsm/libsofthsm2.so`. It is loaded before privileges are
    /// given up, and must start no threads.
    pkcs11_module: PathBuf,
    /// Label of the token.
    token_label: String,
    /// File (mode 0600) with the token's user PIN.
    pin_file: SecretFile,
    /// Files and folders that the module reads and writes while it runs, such as SoftHSM's token folder. They must
    /// be there, and belong to `user`.
    #[serde(default)]
    pub(super) runtime_paths: Vec<PathBuf>,
}

impl KeySection {
    /// The token, with its PIN.
    ///
    /// # Errors
    /// The PIN cannot be read, or is no text.
    pub(super) fn token(&self) -> Result<TokenSettings, SecretError> {
        let pin = self.pin_file.read()?;
        let pin = std::str::from_utf8(&pin).unwrap_or_default().trim_end();
        Ok(TokenSettings {
            module: self.pkcs11_module.clone(),
            label: self.token_label.clone(),
            pin: Zeroizing::new(pin.to_owned()),
        })
    }
}
