//! `rathole`: one connection through the tunnel for each user's connection, a few kept ready.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::{Ends, said};
use crate::tunnel::world::GATE_FOR_AGENTS;

/// How its connections are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Not at all.
    Plain,
    /// `Noise_NK_25519_ChaChaPoly_BLAKE2s`, its default.
    Noise,
    /// TLS, the server's certificate checked.
    Tls,
}

/// Name in the TLS certificate.
const HOST: &str = "gate.bench.test";
/// Of a throw-away key store that never leaves its folder.
const STORE_PASSWORD: &str = "bench";

pub(super) fn program(peers: &Path) -> PathBuf {
    peers.join("rathole-0.5.0/bin/rathole")
}

pub(super) fn version(peers: &Path) -> Result<String> {
    let text = said(Command::new(program(peers)).arg("--version"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Build Version:"));
    Ok(line.context("rathole does not say its version; is it installed?")?.trim().to_owned())
}

pub(super) fn start(ends: &mut Ends<'_>, peers: &Path, transport: Transport) -> Result<()> {
    let rathole = program(peers);
    let place = format!("{GATE_FOR_AGENTS}:{}", ends.ports.control);
    let (server_side, client_side) = match transport {
        Transport::Plain => (String::new(), String::new()),
        Transport::Noise => noise(&rathole)?,
        Transport::Tls => tls(ends)?,
    };
    let mut server = format!("[server]\nbind_addr = \"{place}\"\ndefault_token = \"bench\"\n{server_side}");
    let mut client = format!("[client]\nremote_addr = \"{place}\"\ndefault_token = \"bench\"\n{client_side}");
    for (port, target) in ends.targets() {
        write!(server, "[server.services.s{port}]\nbind_addr = \"0.0.0.0:{port}\"\n")?;
        write!(client, "[client.services.s{port}]\nlocal_addr = \"{target}\"\n")?;
    }
    let (server, client) = (ends.write("server.toml", server)?, ends.write("client.toml", client)?);
    ends.near(&rathole, |command| {
        command.arg("--server").arg(server);
    })?;
    ends.far(&rathole, |command| {
        command.arg("--client").arg(client);
    })
}

fn noise(rathole: &Path) -> Result<(String, String)> {
    let text = said(Command::new(rathole).arg("--genkey"))?;
    let after = |title: &str| text.lines().skip_while(|line| !line.starts_with(title)).nth(1);
    let (private, public) = after("Private").zip(after("Public")).context("rathole made no key pair")?;
    Ok((
        format!("[server.transport]\ntype = \"noise\"\n[server.transport.noise]\nlocal_private_key = \"{private}\"\n"),
        format!("[client.transport]\ntype = \"noise\"\n[client.transport.noise]\nremote_public_key = \"{public}\"\n"),
    ))
}

fn tls(ends: &Ends<'_>) -> Result<(String, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Two certificates of one name are one certificate to OpenSSL.
    params.distinguished_name.push(DnType::CommonName, "bench root");
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &root)?;
    let root = ends.write("root.pem", root.pem())?;
    let (leaf, key) = (ends.write("leaf.pem", leaf.pem())?, ends.write("leaf.key", key.serialize_pem())?);
    let (store, password) = (ends.folder.join("leaf.p12"), ends.write("password", STORE_PASSWORD)?);
    let mut pack = Command::new("openssl");
    pack.args(["pkcs12", "-export", "-in"]).arg(leaf).arg("-inkey").arg(key).arg("-out").arg(&store);
    pack.arg("-passout").arg(format!("file:{}", password.display()));
    let text = said(&pack)?;
    ensure!(fs::exists(&store)?, "openssl made no key store: {text}");
    Ok((
        format!(
            "[server.transport]\ntype = \"tls\"\n[server.transport.tls]\npkcs12 = \"{}\"\npkcs12_password = \"{STORE_PASSWORD}\"\n",
            store.display()
        ),
        format!(
            "[client.transport]\ntype = \"tls\"\n[client.transport.tls]\ntrusted_root = \"{}\"\nhostname = \"{HOST}\"\n",
            root.display()
        ),
    ))
}
