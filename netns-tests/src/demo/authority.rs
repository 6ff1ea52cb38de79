//! A throw-away certificate authority for the host names that users' browsers see.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::process::succeed;

/// The authority and the one certificate it has issued.
#[derive(Debug)]
pub(super) struct Authority {
    root: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

/// Names in the gateway's certificate.
pub(super) const HOSTS: [&str; 3] = ["login.acme.test", "roundup.acme.test", "feed.acme.test"];

impl Authority {
    /// Makes both, good for two days.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let names = HOSTS.map(|host| format!("DNS:{host}")).join(",");
        let openssl = |arguments: &[&str]| succeed(Command::new("openssl").args(arguments).current_dir(folder));
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let root = ["req", "-x509", "-days", "2", "-subj", "/CN=demo users", "-keyout", "root.key", "-out", "root.pem"];
        openssl(&[&root[..], &key[..], &["-addext", "keyUsage=critical,keyCertSign"]].concat())?;
        let request = ["req", "-subj", "/CN=gateway", "-keyout", "gateway.key", "-out", "gateway.csr"];
        openssl(&[&request[..], &key[..]].concat())?;
        fs::write(folder.join("extensions"), format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n"))?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            "gateway.csr",
            "-CA",
            "root.pem",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "gateway.pem",
        ])?;
        let [root, chain, key] = ["root.pem", "gateway.pem", "gateway.key"].map(|name| folder.join(name));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        Ok(Self { root, chain, key })
    }

    /// What browsers trust.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Certificate chain for [`HOSTS`].
    pub(super) fn chain(&self) -> &Path {
        &self.chain
    }

    /// Its private key.
    pub(super) fn key(&self) -> &Path {
        &self.key
    }
}
