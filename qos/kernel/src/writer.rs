//! From typed messages to the kernel.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
};

use anyhow::Context;
use sluice_qos_plan::{
    Capabilities, Generation, InterfaceName, Links, Pinhole, QosPolicy, TcTree, admit, base, classify,
    message::{self, Change, FromKernel, ToKernel},
    pinholes, restage, restage_all,
};
use tracing::{debug, info, warn};

use crate::program;

/// Owns the edge's table and shapers from [`KernelWriter::start`] on. When it ends, the table stays, with nobody admitted:
/// an edge without its wire side lets nobody through. When it is killed, the table takes nobody new and forgets the
/// admitted within [`sluice_qos_plan::ADMITTED_SECONDS`]; the edge's next start forgets them at once.
pub struct KernelWriter {
    generation: Generation,
}

impl KernelWriter {
    /// Installs the deny-all table first, then shapers, then forwarding.
    ///
    /// # Errors
    /// When `nft`, `tc` or the kernel refuse; nothing is forwarded then.
    pub fn start(links: &Links) -> anyhow::Result<Self> {
        program::run("nft", &["-f", "-"], &base(links)).context("cannot install the staging table")?;
        let can = probe(links);
        for tree in TcTree::of(links, can) {
            program::run("tc", &["-batch", "-"], &tree.install())
                .with_context(|| format!("cannot shape {}", tree.interface))?;
            info!(port = %tree.interface, kbit = tree.rate_kbit, fq_codel = can.fq_codel, cut = tree.cut, "shaping");
        }
        for switch in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
            fs::write(switch, "1").with_context(|| format!("cannot switch forwarding on in {switch}"))?;
        }
        Ok(Self { generation: Generation::FIRST })
    }

    /// Carries out messages until the other end closes or sends something that is no message; then restages everybody.
    ///
    /// # Errors
    /// When the socket fails, or when restaging at the end fails.
    pub fn serve(mut self, mut wire_side: UnixStream) -> anyhow::Result<()> {
        let served = self.serve_messages(&mut wire_side);
        self.apply(&restage_all()).context("cannot restage everybody")?;
        served
    }

    fn serve_messages(&mut self, wire_side: &mut UnixStream) -> anyhow::Result<()> {
        while let Some(body) = read_body(wire_side)? {
            let asked: ToKernel = message::decode(&body)?;
            debug!(?asked, "asked");
            let answer = match self.carry_out(asked) {
                Ok(()) => FromKernel::Done,
                Err(error) => {
                    warn!("refused: {error:#}");
                    FromKernel::Refused { reason: format!("{error:#}") }
                }
            };
            wire_side.write_all(&message::encode(&answer)?).context("cannot answer the wire side")?;
        }
        Ok(())
    }

    fn carry_out(&mut self, asked: ToKernel) -> anyhow::Result<()> {
        match asked {
            ToKernel::Policy { policy } => self.policy(&policy),
            ToKernel::Pinholes { pinholes: holes } => {
                anyhow::ensure!(
                    holes.len() <= Pinhole::MAX,
                    "at most {} pinholes, {} given",
                    Pinhole::MAX,
                    holes.len()
                );
                self.apply(&pinholes(&holes))
            }
            ToKernel::Devices { changes } => self.devices(&changes),
            ToKernel::RestageAll => self.apply(&restage_all()),
        }
    }

    fn devices(&self, changes: &[Change]) -> anyhow::Result<()> {
        anyhow::ensure!(changes.len() <= Change::MAX, "at most {} changes, {} given", Change::MAX, changes.len());
        let scripts = changes.iter().map(|change| match *change {
            Change::Admit { mac, address } => admit(mac, address),
            Change::Restage { mac, address } => restage(mac, address),
        });
        self.apply(&scripts.collect::<String>())
    }

    fn policy(&mut self, policy: &QosPolicy) -> anyhow::Result<()> {
        let next = self.generation.next();
        self.apply(&classify(policy, next)?)?;
        self.generation = next;
        Ok(())
    }

    /// One `nft` run is one transaction: all of it or nothing.
    #[expect(clippy::unused_self, reason = "only the owner of the table may write to it")]
    fn apply(&self, script: &str) -> anyhow::Result<()> {
        program::run("nft", &["-f", "-"], script)
    }
}

/// Asks the kernel by trying, on the port that is about to be shaped anyway.
fn probe(links: &Links) -> Capabilities {
    let port = &links.wan.interface;
    let takes =
        |queue: &str| program::run("tc", &["-batch", "-"], &format!("qdisc replace dev {port} root {queue}\n")).is_ok();
    let can = Capabilities {
        fq_codel: takes("fq_codel"),
        tbf: takes("tbf rate 100gbit burst 9000 limit 9000"),
        lan_mtu: mtu(&links.lan.interface),
        wan_mtu: mtu(port),
    };
    if !can.tbf || can.lan_mtu.is_none() || can.wan_mtu.is_none() {
        warn!(?can, "super-packets pass whole: without tbf and the ports' MTU the urgent wait behind them");
    }
    can
}

fn mtu(port: &InterfaceName) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{port}/mtu")).ok()?.trim().parse().ok()
}

fn read_body(stream: &mut UnixStream) -> anyhow::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error).context("the wire side's socket failed"),
    }
    let mut body = vec![0; message::body_length(prefix)?];
    stream.read_exact(&mut body).context("the wire side went away in the middle of a message")?;
    Ok(Some(body))
}
