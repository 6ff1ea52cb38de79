//! DHCP on the wire.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use sluice_discovery_rules::dhcp::MAX_PACKET;
use tokio::net::UdpSocket;
use tracing::warn;

use crate::lan::Desk;

/// Until the kernel queue fails.
pub(crate) async fn run(socket: std::net::UdpSocket, desk: Arc<Desk>) -> anyhow::Result<()> {
    let socket = UdpSocket::from_std(socket).context("DHCP socket")?;
    let mut buffer = [0; MAX_PACKET + 1];
    loop {
        let length = match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => length,
            Err(error) => {
                // E.g. an ICMP error to an earlier answer: nothing to do with the next packet.
                tracing::debug!(%error, "DHCP receive");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(packet) = buffer.get(..length) else { continue };
        if let Some(reply) = desk.dhcp(packet)?
            && let Err(error) = socket.send_to(&reply.bytes, SocketAddr::V4(reply.to)).await
        {
            warn!(%error, to = %reply.to, "cannot send a DHCP answer");
        }
    }
}
