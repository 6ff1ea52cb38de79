//! The gateway's own signing keys: they are made here and never leave the state directory.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, anyhow};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use sluice_connector_wire::TokenSigner;
use sluice_gateway_access::AssertionKey;
use sluice_node_identity::{NodeId, api::GatewayKeys};
use zeroize::Zeroizing;

const CALLER_FILE: &str = "caller.key";
const ASSERTION_FILE: &str = "assertion.key";
/// Longest key file, bytes.
const MAX_KEY: u64 = 4096;

/// Both keys.
pub(super) struct Keys {
    /// Ed25519: signs stream tokens.
    pub(super) caller: TokenSigner,
    /// P-256: signs `Sluice-Identity`.
    pub(super) assertion: AssertionKey,
}

impl Keys {
    /// Reads them, or makes those that are not there yet.
    pub(super) fn load_or_make(state_dir: &Path, gateway: &NodeId) -> anyhow::Result<Self> {
        let caller = file(&state_dir.join(CALLER_FILE), new_caller_key)?;
        let assertion = file(&state_dir.join(ASSERTION_FILE), sluice_gateway_proxy::new_assertion_key)?;
        Ok(Self {
            caller: TokenSigner::gateway(gateway.as_str(), &caller)?,
            assertion: AssertionKey::from_pkcs8(&assertion)?,
        })
    }

    /// The public halves, as control is told.
    pub(super) fn public(&self) -> anyhow::Result<GatewayKeys> {
        let set: serde_json::Value = serde_json::from_str(&self.assertion.jwks())?;
        let assertion = set.pointer("/keys/0").context("the assertion key has no public half")?.clone();
        Ok(GatewayKeys { caller: self.caller.jwk(), assertion })
    }
}

fn new_caller_key() -> anyhow::Result<Vec<u8>> {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| anyhow!("no key could be made: the system's random source failed"))?;
    Ok(key.as_ref().to_vec())
}

fn file(path: &Path, make: fn() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => {
            let mut key = Zeroizing::new(Vec::new());
            file.take(MAX_KEY).read_to_end(&mut key).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = Zeroizing::new(make()?);
            write(path, &key).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Whole or not at all: half a key would stop every later start.
fn write(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(key)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_stay_the_same_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let gateway: NodeId = "dmz-1".parse().unwrap();
        let made = Keys::load_or_make(dir.path(), &gateway).unwrap().public().unwrap();
        let read = Keys::load_or_make(dir.path(), &gateway).unwrap().public().unwrap();
        assert_eq!(made, read);
        assert_eq!((&made.caller["crv"], &made.assertion["crv"]), (&"Ed25519".into(), &"P-256".into()));
        assert!(made.caller.get("d").is_none() && made.assertion.get("d").is_none());
        for name in [CALLER_FILE, ASSERTION_FILE] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn damaged_key_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CALLER_FILE), "not a key").unwrap();
        assert!(Keys::load_or_make(dir.path(), &"dmz-1".parse().unwrap()).is_err());
    }
}
