//! The gateway's own signing keys: they are made here and never leave the state directory.
//!
//! They belong to one join. A gateway that is joined anew (because its identity was cloned, or it moves to another
//! tenant) signs with new ones; whoever copied the old ones holds nothing.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use sluice_connector_wire::TokenSigner;
use sluice_gateway_access::AssertionKey;
use sluice_node_identity::{Fingerprint, NodeId, api::GatewayKeys};
use zeroize::Zeroizing;

const CALLER: &str = "caller";
const ASSERTION: &str = "assertion";
const RESET: &str = "reset";
/// Hex digits of the join that stand in a key file's name.
const JOIN_DIGITS: usize = 16;
/// Longest key file, bytes.
const MAX_KEY: u64 = 4096;

/// All of them.
pub(super) struct Keys {
    /// Ed25519: signs stream tokens.
    pub(super) caller: TokenSigner,
    /// P-256: signs `Sluice-Identity`.
    pub(super) assertion: AssertionKey,
    /// Symmetric: tells QUIC peers of a former process that it is gone.
    pub(super) reset: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// Reads those of this `join`, or makes them; those of former joins go.
    pub(super) fn load_or_make(state_dir: &Path, gateway: &NodeId, join: &Fingerprint) -> anyhow::Result<Self> {
        let paths = [CALLER, ASSERTION, RESET].map(|what| path(state_dir, what, join));
        remove_others(state_dir, &paths)?;
        let [caller, assertion, reset] = &paths;
        let caller = file(caller, new_caller_key)?;
        let assertion = file(assertion, sluice_gateway_proxy::new_assertion_key)?;
        Ok(Self {
            caller: TokenSigner::gateway(gateway.as_str(), &caller)?,
            assertion: AssertionKey::from_pkcs8(&assertion)?,
            reset: file(reset, new_reset_key)?
                .as_slice()
                .try_into()
                .map(Zeroizing::new)
                .context("the reset key is not 32 bytes")?,
        })
    }

    /// The public halves, as control is told.
    pub(super) fn public(&self) -> anyhow::Result<GatewayKeys> {
        let set: serde_json::Value = serde_json::from_str(&self.assertion.jwks())?;
        let assertion = set.pointer("/keys/0").context("the assertion key has no public half")?.clone();
        Ok(GatewayKeys { caller: self.caller.jwk(), assertion })
    }
}

fn path(state_dir: &Path, what: &str, join: &Fingerprint) -> PathBuf {
    let join = join.as_str();
    state_dir.join(format!("{what}-{}.key", join.get(..JOIN_DIGITS).unwrap_or(join)))
}

/// Only files of our making: an administrator may keep keys of his own here.
fn remove_others(state_dir: &Path, ours: &[PathBuf]) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(state_dir).context("cannot list the state directory")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let made_here = [CALLER, ASSERTION, RESET].iter().any(|what| is_key_name(name, what));
        if made_here && !ours.contains(&path) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn is_key_name(name: &str, what: &str) -> bool {
    let join = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".key"));
    join.is_some_and(|join| join.len() == JOIN_DIGITS && join.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn new_caller_key() -> anyhow::Result<Vec<u8>> {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| anyhow!("no key could be made: the system's random source failed"))?;
    Ok(key.as_ref().to_vec())
}

fn new_reset_key() -> anyhow::Result<Vec<u8>> {
    let mut key = vec![0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow!("no key could be made: the system's random source failed"))?;
    Ok(key)
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

    fn join(code: &str) -> Fingerprint {
        Fingerprint::of(code.as_bytes())
    }

    fn load(dir: &Path, code: &str) -> anyhow::Result<GatewayKeys> {
        Keys::load_or_make(dir, &"dmz-1".parse().unwrap(), &join(code))?.public()
    }

    #[test]
    fn keys_stay_the_same_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let made = load(dir.path(), "one").unwrap();
        let read = load(dir.path(), "one").unwrap();
        assert_eq!(made, read);
        assert_eq!((&made.caller["crv"], &made.assertion["crv"]), (&"Ed25519".into(), &"P-256".into()));
        assert!(made.caller.get("d").is_none() && made.assertion.get("d").is_none());
        for what in [CALLER, ASSERTION, RESET] {
            let mode = std::fs::metadata(path(dir.path(), what, &join("one"))).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_new_join_means_new_keys_and_the_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("assertion-of-my-own.key"), "an administrator's").unwrap();
        let before = load(dir.path(), "one").unwrap();
        let after = load(dir.path(), "two").unwrap();
        assert_ne!(before.caller, after.caller);
        assert_ne!(before.assertion, after.assertion);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn damaged_key_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path(), CALLER, &join("one")), "not a key").unwrap();
        assert!(load(dir.path(), "one").is_err());
    }
}
