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
pub(crate) struct Authority {
    root: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// Makes both, good for two days; the certificate is for `hosts`.
    pub(crate) fn create(folder: &Path, hosts: &[&str]) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let names = hosts.iter().map(|host| format!("DNS:{host}")).collect::<Vec<_>>().join(",");
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
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The gateway's certificate chain.
    pub(crate) fn chain(&self) -> &Path {
        &self.chain
    }

    /// Its private key.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }
}
