//! Sealed streams: control's bytes, carried to an agent unread.

use anyhow::Context;
use sluice_connector_mux::{PollReset, carry, read_frame, write_frame};
use sluice_connector_wire::{OpenReply, OpenRequest, RelayOpen};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{TunnelServer, choice::Way, leg::Opened};

impl TunnelServer {
    /// Carries one sealed stream. `io` has finished mutual TLS 1.3 with ALPN `sluice-relay/1` and its peer is one of
    /// the document's relay callers.
    ///
    /// # Errors
    /// No request in time, or either side broke off. A refusal is answered and is no error.
    pub async fn serve_relay<T>(&self, mut io: T) -> anyhow::Result<()>
    where
        T: AsyncRead + AsyncWrite + PollReset + Unpin,
    {
        let limits = &self.shared.limits;
        let wanted: RelayOpen = read_frame(&mut io, limits.handshake).await.context("reading the relay request")?;
        if *self.shared.leaving.borrow() {
            return self.refuse(io, "relay_leaving", "the gateway is stopping; use another one").await;
        }
        let Ok(_room) = self.shared.relays.clone().try_acquire_owned() else {
            let message = "the gateway carries as many relays as it may; try again later";
            return self.refuse(io, "relay_busy", message).await;
        };
        let ways = self.shared.registry.ways_of(&wanted.connector, &wanted.sid, wanted.pair);
        if ways.is_empty() {
            let message = "the connector's tunnel is not here; ask for its newest session";
            return self.refuse(io, "relay_no_tunnel", message).await;
        }
        let Some(Opened { mut stream, room: _stream_room }) = first_open(&ways).await else {
            return self.refuse(io, "relay_busy", "the connector's tunnel is full or gone; try again").await;
        };
        write_frame(&mut stream, &OpenRequest::Sealed, limits.handshake).await.context("asking the agent")?;
        write_frame(&mut io, &OpenReply::Open, limits.handshake).await.context("answering control")?;
        let (up, down) = carry(&mut io, &mut stream).await.context("relay broke off")?;
        tracing::debug!(connector = %wanted.connector, up, down, "relay ended");
        Ok(())
    }

    async fn refuse<T>(&self, mut io: T, code: &str, message: &str) -> anyhow::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let reply = OpenReply::Refused { code: code.to_owned(), message: message.to_owned(), retry: true };
        write_frame(&mut io, &reply, self.shared.limits.handshake).await.context("refusing a relay")?;
        io.shutdown().await.context("closing a refused relay")
    }
}

/// A stream on the first of these connections that has one.
async fn first_open(ways: &[Way]) -> Option<Opened> {
    for way in ways {
        if let Ok(opened) = way.leg.open().await {
            return Some(opened);
        }
    }
    None
}
