//! The connector's way out, and the hidden processes behind it: one that starts workers, and the workers.
//!
//! `sluice connector` starts `sluice web-proxy-helper` before it confines itself; that one may run this program and
//! nothing else, and starts `sluice web-proxy-helper --worker …` for each job. Nothing but a socket is handed down.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use async_trait::async_trait;
use futures::future::BoxFuture;
use sluice_connector_agent::{Outward, Reaching, WayOut};
use sluice_connector_egress::{
    Connected, Egress, Explanation, Guard, Io, Setup,
    worker::{self, Kind, Lifeline, Spawner},
};
use sluice_connector_webproxy::Way;
use sluice_connector_wire::{ClassPair, GatewayEndpoint};
use sluice_node_client::{Dial, Dialled};
use tokio::time::{Instant, timeout};

use crate::{
    config::connector::ConnectorConfig,
    confine::{self, Profile, User},
};

/// This very program, also after the file it was started from has been replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Name of the hidden command.
const COMMAND: &str = "web-proxy-helper";
/// For one way out to control; less than the node client gives.
const PATIENCE: Duration = Duration::from_secs(9);

/// Arguments of the hidden command.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Account to become when started as root
    #[arg(long)]
    user: Option<String>,
    /// Do one job on standard input instead of starting those who do
    #[arg(long, value_parser = kind)]
    worker: Option<Kind>,
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| "no such worker".to_owned())
}

/// The way out that `setup` describes, with workers that are `user`, and what tells the end of the process that starts
/// those. Call it with the rights of whoever starts the role, before threads.
pub(crate) fn egress(setup: Setup, user: &str) -> anyhow::Result<(Egress, Option<Lifeline>)> {
    if setup.pac.is_none() && setup.kerberos.is_none() {
        return Ok((Egress::new(setup, None)?, None));
    }
    let mut command = Command::new(THIS_PROGRAM);
    command.args([COMMAND, "--user", user]);
    let (spawner, lifeline) = Spawner::start(command).context("cannot start the web proxy's helper process")?;
    Ok((Egress::new(setup, Some(Arc::new(spawner)))?, Some(lifeline)))
}

/// Returns when the helper process has gone; never when there is none.
pub(crate) async fn helper_lost(lifeline: Option<Lifeline>) -> anyhow::Error {
    let Some(lifeline) = lifeline else { return std::future::pending().await };
    let watched = lifeline.ended().await;
    let gone = "the web proxy's helper process has gone, and a confined connector cannot start another; restart it";
    watched.err().map_or_else(|| anyhow::anyhow!(gone), |error| anyhow::Error::new(error).context(gone))
}

/// What the configuration says about it, read whole.
pub(crate) fn setup(config: &ConnectorConfig) -> anyhow::Result<Setup> {
    config.web_proxy.setup(&config.gateway_networks, |name| std::env::var(name).ok())
}

/// Runs the hidden command.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    match args.worker {
        Some(kind) => worker::work(kind, socket, || {
            worker::bound_worker().context("cannot bound the worker")?;
            confine::worker()
        })?,
        None => {
            let user = args.user.as_deref().map(User::named).transpose()?;
            let run = vec![PathBuf::from(THIS_PROGRAM)];
            confine::apply(&Profile { role: COMMAND, run, user, ..Profile::default() })?;
            worker::serve_spawner(&socket, start)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn start(kind: Kind, socket: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(THIS_PROGRAM);
    command.args([COMMAND, "--worker", kind.name()]).env_clear().stdin(socket);
    // Not even the connector's log: a worker reads what strangers write.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

/// The node client's way to control: the operator named it himself, so no dial guard stands before it.
#[derive(Debug)]
pub(crate) struct ToControl(pub(crate) Egress);

#[async_trait]
impl Dial for ToControl {
    async fn dial(&self, host: &str, port: u16) -> anyhow::Result<Dialled> {
        let connected = self.0.connect(host, port, Guard::Operator, Instant::now() + PATIENCE).await?;
        let proxy = match &connected.via {
            Way::Direct => None,
            Way::Proxy(proxy) => Some(proxy.to_string()),
        };
        Ok(Dialled { io: Box::new(connected.io), proxy })
    }
}

/// The agent's way to gateways: their places come from the document, so the dial guard stands before it.
pub(crate) struct ToGateways {
    pub(crate) egress: Egress,
    /// Whether a gateway behind a proxy may be dialled around it.
    pub(crate) direct_udp: bool,
}

impl WayOut for ToGateways {
    fn reach<'a>(&'a self, gateway: &'a GatewayEndpoint, pair: ClassPair) -> Reaching<'a> {
        Box::pin(async move {
            let (host, port) = (gateway.host.clone(), gateway.port);
            let explained = timeout(PATIENCE, self.egress.explain(&host, port)).await;
            if explained.context("the PAC script was not evaluated in time; check web_proxy.pac_url")??.ways
                == [Way::Direct]
            {
                // The agent resolves with the servers that its file names.
                return Ok(None);
            }
            let Connected { io, via } =
                self.egress.connect(&host, port, Guard::Gateways, Instant::now() + PATIENCE).await?;
            let how = via.to_string();
            let outward = match io {
                Io::Tcp(tcp) => Outward::over_tcp(tcp, pair, how),
                Io::Tls(tls) => Outward::inside(*tls, |tls| tls.get_ref().0, pair, how),
            };
            let words = move |error: &io::Error| {
                Egress::interception(&via, &host, port, error).map(|failure| failure.to_string())
            };
            Ok(Some(outward.explaining(Box::new(words))))
        })
    }

    fn no_udp<'a>(&'a self, gateway: &'a GatewayEndpoint) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            if self.direct_udp {
                return None;
            }
            match self.egress.explain(&gateway.host, gateway.port).await {
                Ok(Explanation { ways, .. }) if ways.first() == Some(&Way::Direct) => None,
                Ok(explained) => Some(format!("no UDP: the way to the gateway leads {explained}")),
                Err(error) => Some(error.to_string()),
            }
        })
    }
}
