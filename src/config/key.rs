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
    /// File (mode 0600) with the token's user PIN: one line, whose blanks count.
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
    /// The PIN cannot be read, or is no line of text.
    pub(super) fn token(&self) -> Result<TokenSettings, SecretError> {
        let file = self.pin_file.read()?;
        // Blanks may be part of a PIN; the end of the line is not.
        let line = file.strip_suffix(b"\n").unwrap_or(&file);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let pin = std::str::from_utf8(line).ok().filter(|pin| !pin.is_empty() && !pin.contains(['\n', '\r', '\0']));
        let no_line = || SecretError::NoLine { path: self.pin_file.path().to_owned() };
        let pin = pin.ok_or_else(no_line)?;
        Ok(TokenSettings {
            module: self.pkcs11_module.clone(),
            label: self.token_label.clone(),
            pin: Zeroizing::new(pin.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::KeySection;

    #[test]
    fn c4_a_pin_is_read_as_it_was_written_or_refused_with_the_reason() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!("pkcs11_module = \"/x\"\ntoken_label = \"t\"\npin_file = {:?}", file.path());
        let section: KeySection = toml::from_str(&text).unwrap();
        let read = |content: &[u8]| {
            fs::write(file.path(), content).unwrap();
            section.token().map(|token| token.pin.to_string()).map_err(|error| error.to_string())
        };
        for (content, pin) in [("1234", "1234"), ("1234\n", "1234"), ("12 34 \r\n", "12 34 "), ("\t\n", "\t")] {
            assert_eq!(read(content.as_bytes()).unwrap(), pin);
        }
        for wrong in [&b"12\xff34\n"[..], b"\n", b"", b"1234\n\n", b"one\ntwo\n"] {
            assert!(read(wrong).unwrap_err().contains("one line of UTF-8"), "{wrong:?}");
        }
    }
}
