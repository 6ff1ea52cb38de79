//! The systems under measurement: how each is told to carry the same two targets.

mod bore;
mod rathole;
mod rusnel;
mod sluice;
mod ssh;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use sluice_netns_tests::process::{Process, run};

use super::{
    usage::family,
    world::{BULK_PORT, ECHO_PORT, SERVER, World},
};

/// One system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Ours over TLS 1.3 and TCP.
    SluiceTcp,
    /// Ours over QUIC.
    SluiceQuic,
    /// `rathole` over bare TCP: no encryption.
    RatholePlain,
    /// `rathole` with the Noise protocol, its default pattern.
    RatholeNoise,
    /// `rathole` with TLS.
    RatholeTls,
    /// `rusnel`: QUIC.
    Rusnel,
    /// `bore`: bare TCP.
    Bore,
    /// OpenSSH's remote forwarding.
    Ssh,
}

/// Every system, ours first.
pub(crate) const ALL: [System; 8] = [
    System::SluiceTcp,
    System::SluiceQuic,
    System::RatholePlain,
    System::RatholeNoise,
    System::RatholeTls,
    System::Rusnel,
    System::Bore,
    System::Ssh,
];

/// Streams that any system is asked to hold; ours carries 256 on one QUIC connection.
pub(crate) const MOST_STREAMS: usize = 240;

/// Ports of one system at the gateway's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Where its agent comes.
    pub(crate) control: u16,
    /// Where users meet iperf3.
    pub(crate) bulk: u16,
    /// Where users meet the echo server.
    pub(crate) echo: u16,
}

/// Both ends of one system.
pub(crate) struct Running {
    near: Vec<Process>,
    far: Vec<Process>,
}

/// A started end: its process and what waits for it.
struct Ends<'a> {
    world: &'a World,
    folder: PathBuf,
    ports: Ports,
    running: Running,
}

impl System {
    /// As in tables.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SluiceTcp => "sluice tcp",
            Self::SluiceQuic => "sluice quic",
            Self::RatholePlain => "rathole plain",
            Self::RatholeNoise => "rathole Noise",
            Self::RatholeTls => "rathole TLS",
            Self::Rusnel => "rusnel",
            Self::Bore => "bore",
            Self::Ssh => "ssh -R",
        }
    }

    /// Whether it is ours.
    #[must_use]
    pub(crate) const fn ours(self) -> bool {
        matches!(self, Self::SluiceTcp | Self::SluiceQuic)
    }

    /// What it says its version is.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn version(self, peers: &Path) -> Result<String> {
        match self {
            Self::SluiceTcp | Self::SluiceQuic => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::RatholePlain | Self::RatholeNoise | Self::RatholeTls => rathole::version(peers),
            Self::Rusnel => word_of(&rusnel::program(peers), "--version", 1),
            Self::Bore => word_of(&bore::program(peers), "--version", 1),
            Self::Ssh => ssh::version(),
        }
    }

    /// Its ports.
    #[must_use]
    pub(crate) fn ports(self) -> Ports {
        let number = ALL.iter().position(|system| *system == self).unwrap_or_default();
        let base = 7000 + 10 * u16::try_from(number).unwrap_or_default();
        Ports { control: if self == Self::Bore { bore::CONTROL } else { base }, bulk: base + 1, echo: base + 2 }
    }

    /// Starts both ends and waits until bytes go through.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub(crate) fn start(self, world: &World, peers: &Path) -> Result<Running> {
        let folder = world.folder.join(self.name().replace(' ', "-"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let running = Running { near: Vec::new(), far: Vec::new() };
        let mut ends = Ends { world, folder, ports: self.ports(), running };
        let started = match self {
            Self::SluiceTcp => sluice::start(&mut ends, "tcp"),
            Self::SluiceQuic => sluice::start(&mut ends, "quic"),
            Self::RatholePlain => rathole::start(&mut ends, peers, rathole::Transport::Plain),
            Self::RatholeNoise => rathole::start(&mut ends, peers, rathole::Transport::Noise),
            Self::RatholeTls => rathole::start(&mut ends, peers, rathole::Transport::Tls),
            Self::Rusnel => rusnel::start(&mut ends, peers),
            Self::Bore => bore::start(&mut ends, peers),
            Self::Ssh => ssh::start(&mut ends),
        };
        started.and_then(|()| ends.ready()).with_context(|| format!("starting {}", self.name()))?;
        Ok(ends.running)
    }
}

impl Running {
    /// Processes of the gateway's side, children too.
    #[must_use]
    pub(crate) fn near(&self) -> Vec<u32> {
        family(&self.near.iter().map(Process::pid).collect::<Vec<_>>())
    }

    /// Processes of the agent's side, children too.
    #[must_use]
    pub(crate) fn far(&self) -> Vec<u32> {
        family(&self.far.iter().map(Process::pid).collect::<Vec<_>>())
    }
}

impl Ends<'_> {
    fn near(&mut self, program: &Path, prepare: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = self.world.gate.command(program);
        prepare(&mut command);
        self.running.near.push(Process::start("near", command, &self.folder)?);
        Ok(())
    }

    fn far(&mut self, program: &Path, prepare: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = self.world.agent.command(program);
        prepare(&mut command);
        self.running.far.push(Process::start("far", command, &self.folder)?);
        Ok(())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// Listening port of the gateway's side, and the target's place, for both targets.
    fn targets(&self) -> [(u16, String); 2] {
        [(self.ports.bulk, format!("{SERVER}:{BULK_PORT}")), (self.ports.echo, format!("{SERVER}:{ECHO_PORT}"))]
    }

    fn ready(&mut self) -> Result<()> {
        let near = self.running.near.first_mut().context("nothing was started")?;
        self.world.wait_for_echo(near, self.ports.echo).with_context(|| {
            let tails = self.running.far.iter().filter_map(|far| far.log().lines().last().map(str::to_owned));
            format!("the far end said: {}", tails.collect::<Vec<_>>().join("; "))
        })
    }
}

/// What a short command says, whichever way.
fn said(command: &Command) -> Result<String> {
    let ended = run(command, Duration::from_secs(10))?;
    Ok(ended.stdout + &ended.stderr)
}

fn word_of(program: &Path, argument: &str, at: usize) -> Result<String> {
    let text = said(Command::new(program).arg(argument))?;
    let word = text.split_whitespace().nth(at).map(str::to_owned);
    word.with_context(|| format!("{} does not say its version; is it installed?", program.display()))
}
