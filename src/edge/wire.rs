//! The child: everything that talks to the network, without any right over the box.

use std::{
    net::Ipv4Addr,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::{prctl, signal::Signal};
use serde::Deserialize;
use sluice_discovery_agent::{Agent, Handle, Lan, Sockets};
use sluice_discovery_rules::EdgeDocument;
use sluice_node_client::{Judge, Node, Ready};
use sluice_node_identity::{ConfigEnvelope, Role, api::Joined};
use tokio::{runtime::Handle as Runtime, sync::watch, task::block_in_place};

use super::{kernel, uplink::Uplink};
use crate::{config::edge::EdgeConfig, node};

pub(super) fn run(config: &EdgeConfig, lan: Lan) -> anyhow::Result<ExitCode> {
    let socket = kernel_socket().context("--wire-side is only for the edge itself to use")?;
    let ready = Ready::new(config.control.settings(&config.state_dir))?;
    let sockets = Sockets::bind(&lan)?;
    node::confine("edge wire side", &config.state_dir, &config.user)?;
    // Asked for after the change of user, which would take it back. An end of the kernel writer before this shows on
    // the socket.
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to the kernel writer")?;
    let max_stale = Duration::from_secs(config.control.max_stale_seconds);
    node::runtime()?.block_on(serve(socket, ready, lan, sockets, max_stale, config.time_servers()))?;
    Ok(ExitCode::SUCCESS)
}

fn kernel_socket() -> anyhow::Result<UnixStream> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(input);
    // Anything but a connected local socket has no peer.
    socket.peer_addr().context("standard input is not the kernel writer's socket")?;
    Ok(socket)
}

async fn serve(
    socket: UnixStream,
    ready: Ready,
    lan: Lan,
    sockets: Sockets,
    max_stale: Duration,
    time_servers: Vec<Ipv4Addr>,
) -> anyhow::Result<()> {
    let (writer, gone) = kernel::connect(socket, time_servers)?;
    let stop = either(node::shutdown()?, gone);
    let Some(node) = node::start(ready, Role::Edge, &stop).await? else { return Ok(()) };
    let uplink = Arc::new(Uplink { node: node.clone(), max_stale });
    let (agent, handle) = Agent::new(lan, sockets, uplink);
    let serving = tokio::spawn(agent.run(writer, stop.clone()));
    let reviewing = tokio::spawn(review(node.clone(), handle.clone()));
    let judge = judge(node.name().clone(), handle);
    let following = tokio::spawn({
        let (node, stop) = (node.clone(), stop.clone());
        async move { node.run_judging(stop, judge).await }
    });
    let served = tokio::select! {
        served = serving => served.context("the agent failed")?,
        reviewed = reviewing => reviewed.context("the review failed")?,
    };
    following.abort();
    // The kernel writer ends first when the edge is told to stop; what was under way then is no fault.
    if *stop.borrow() { Ok(()) } else { served }
}

/// True when told to stop, or when the kernel writer is gone.
fn either(mut stop: watch::Receiver<bool>, mut gone: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            _ = gone.wait_for(|gone| *gone) => tracing::info!("the kernel writer has ended: ending too"),
        }
        sender.send_replace(true);
        std::future::pending::<()>().await;
    });
    receiver
}

/// Stages hubs again as soon as the state feed says that they are no longer good.
async fn review(node: Node, handle: Handle) -> anyhow::Result<()> {
    let mut state = node.state();
    loop {
        state.changed().await.context("the node client has ended")?;
        handle.review()?;
    }
}

fn judge(name: Joined, handle: Handle) -> Judge {
    Arc::new(move |envelope| {
        let document = read(&name, envelope).map_err(|reason| format!("{reason:#}"))?;
        let applying = handle.document(document);
        block_in_place(|| Runtime::current().block_on(applying)).map_err(|gone| format!("{gone:#}"))?
    })
}

fn read(name: &Joined, envelope: &ConfigEnvelope) -> anyhow::Result<EdgeDocument> {
    let document = EdgeDocument::deserialize(&envelope.document).context("not an edge's document")?;
    ensure!(document.tenant == name.tenant, "the document is for tenant {}", document.tenant);
    ensure!(document.site == name.site, "the document is for site {}", document.site);
    Ok(document)
}
