//! Sealed streams: mutual TLS with control inside the stream, so that the gateway carries what it cannot read.

use std::{io::ErrorKind, sync::Arc};

use anyhow::{Context, ensure};
use rustls::server::NoServerSessionStorage;
use sluice_connector_mux::Stream;
use sluice_connector_wire::{
    ALPN_SEALED, CONTROL, OpenRequest, Peer, Presented, Refusal, StreamKind, certificate_hash,
};
use sluice_node_identity::{Principal, SpiffeId};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{first_frame, open, refuse};
use crate::{Shared, link::Tunnel, places::Place};

/// Control calls: the gateway sees TLS from here on.
pub(super) async fn accept(
    shared: &Shared,
    tunnel: &Tunnel,
    stream: Stream,
    asking: Option<Place>,
) -> anyhow::Result<()> {
    let limit = shared.pieces.limits.handshake;
    let mut config = (*(shared.pieces.server)()?).clone();
    config.alpn_protocols = vec![ALPN_SEALED.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let tls = timeout(limit, TlsAcceptor::from(Arc::new(config)).accept(stream));
    let greeted = tls.await.context("the sealed handshake took too long")?;
    let stranger = |error: anyhow::Error| {
        shared.ledger.refused(&tunnel.way(), StreamKind::Sealed, &Refusal::NotTrusted, None);
        error
    };
    let mut tls = match greeted {
        Ok(tls) => tls,
        // What TLS does not like; a connection that broke is nobody's attempt.
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(stranger(error.into())),
        Err(error) => return Err(error).context("sealed handshake"),
    };
    let cnf = control_certificate(shared, &tls).map_err(stranger)?;
    match first_frame(&mut tls, limit).await {
        Ok(OpenRequest::Direct { token }) => {
            let presented = Presented { kind: StreamKind::Sealed, caller: CONTROL, sid: &tunnel.sid, cnf: &cnf };
            open(shared, tunnel, tls, &token, &presented, asking).await
        }
        Ok(OpenRequest::Sealed) | Err(_) => {
            shared.ledger.refused(&tunnel.way(), StreamKind::Sealed, &Refusal::BadFrame, None);
            refuse(&mut tls, &Refusal::BadFrame, limit).await
        }
    }
}

/// Hash of the caller's certificate, which must be control's.
fn control_certificate(shared: &Shared, tls: &TlsStream<Stream>) -> anyhow::Result<String> {
    let session = tls.get_ref().1;
    ensure!(session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3), "sealed streams are TLS 1.3");
    ensure!(session.alpn_protocol() == Some(ALPN_SEALED), "the caller does not speak sealed streams");
    let leaf = session.peer_certificates().and_then(<[_]>::first).context("the caller showed no certificate")?;
    let trust_domain = shared.pieces.name.trust_domain.clone();
    let control = SpiffeId { trust_domain, principal: Principal::Control };
    ensure!(Peer::from_leaf(leaf)?.name == control, "the caller of a sealed stream must be control");
    Ok(certificate_hash(leaf))
}
