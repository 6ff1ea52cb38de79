//! `ssh -R`: channels of one SSH connection, with Debian's OpenSSH at both ends and keys of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use sluice_netns_tests::process::succeed;

use super::{Ends, said};
use crate::tunnel::world::GATE_FOR_AGENTS;

/// Where `sshd` retires to before a login; packages make it when they start the service.
const EMPTY: &str = "/run/sshd";

pub(super) fn version() -> Result<String> {
    let text = said(Command::new("ssh").arg("-V"))?;
    let version = text.split([' ', ',']).next().context("ssh does not say its version")?;
    Ok(format!("{version} ({})", default_cipher()?))
}

/// The cipher that both ends prefer and so use.
fn default_cipher() -> Result<String> {
    let text = said(Command::new("ssh").args(["-F", "none", "-G", "none.test"]))?;
    let line = text.lines().find_map(|line| line.strip_prefix("ciphers "));
    let first = line.and_then(|list| list.split(',').next());
    Ok(first.context("ssh does not name its ciphers")?.to_owned())
}

pub(super) fn start(ends: &mut Ends<'_>) -> Result<()> {
    fs::create_dir_all(EMPTY)?;
    let (host, user) = (ends.folder.join("host"), ends.folder.join("user"));
    for key in [&host, &user] {
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key))?;
    }
    let port = ends.ports.control;
    let known = format!("[{GATE_FOR_AGENTS}]:{port} {}", fs::read_to_string(host.with_extension("pub"))?);
    let known = ends.write("known", known)?;
    let authorised = user.with_extension("pub");
    let config = format!(
        "ListenAddress {GATE_FOR_AGENTS}:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PermitRootLogin prohibit-password\nGatewayPorts clientspecified\nPidFile none\n",
        host.display(),
        authorised.display(),
    );
    let config = ends.write("sshd_config", config)?;
    ends.near(Path::new("/usr/sbin/sshd"), |command| {
        command.args(["-D", "-e", "-f"]).arg(config);
    })?;
    let place = std::net::SocketAddr::from((GATE_FOR_AGENTS, port));
    let gate = ends.world.gate.clone();
    if let Some(near) = ends.running.near.first_mut() {
        near.wait_for_port(&gate, place, Duration::from_secs(15))?;
    }
    let targets = ends.targets();
    ends.far(Path::new("ssh"), |command| {
        command.args(["-F", "none", "-N", "-T", "-p", &port.to_string(), "-i"]).arg(user);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        command.args(["-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes"]);
        for (port, target) in &targets {
            command.args(["-R", &format!("0.0.0.0:{port}:{target}")]);
        }
        command.arg(format!("root@{GATE_FOR_AGENTS}"));
    })
}
