//! One stream: who asks, may they, connect, carry bytes, say how it ended.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustls::server::NoServerSessionStorage;
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_wire::{
    ALPN_SEALED, Granted, OpenReply, OpenRequest, Peer, Presented, Refusal, StreamKind, certificate_hash,
};
use sluice_node_identity::{Principal, SpiffeId};
use sluice_node_reach::DialGuard;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Shared, dial::dial, link::Tunnel, now};

/// Buffer of each direction, in bytes.
const COPY_BUFFER: usize = 32 * 1024;

/// Carries one stream from its first frame to its end.
pub(crate) async fn carry(shared: Arc<Shared>, tunnel: Arc<Tunnel>, mut stream: Stream, draining: bool) {
    let limit = shared.pieces.limits.handshake;
    let room = shared.streams.clone().try_acquire_owned();
    let done = async {
        let request = match (&room, draining) {
            (_, true) => Err(Refusal::Draining),
            (Err(_), _) => Err(Refusal::Busy),
            (Ok(_), false) => first_frame(&mut stream, limit).await,
        };
        match request {
            Err(refusal) => refuse(&mut stream, &refusal, limit).await,
            Ok(OpenRequest::Direct { token }) => {
                let presented = Presented { kind: StreamKind::Direct, sid: &tunnel.sid, cnf: &tunnel.cnf };
                open(&shared, &tunnel, stream, &token, &presented).await
            }
            Ok(OpenRequest::Sealed) => sealed(&shared, &tunnel, stream).await,
        }
    };
    if let Err(error) = done.await {
        tracing::debug!(gateway = %tunnel.gateway, error = format!("{error:#}"), "stream was not carried");
    }
}

async fn first_frame(io: &mut (impl AsyncRead + Unpin), limit: Duration) -> Result<OpenRequest, Refusal> {
    read_frame(io, limit).await.map_err(|_| Refusal::BadFrame)
}

/// Control calls: the gateway sees TLS from here on.
async fn sealed(shared: &Shared, tunnel: &Tunnel, stream: Stream) -> anyhow::Result<()> {
    let limit = shared.pieces.limits.handshake;
    let mut config = (*(shared.pieces.server)()?).clone();
    config.alpn_protocols = vec![ALPN_SEALED.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let tls = timeout(limit, TlsAcceptor::from(Arc::new(config)).accept(stream));
    let mut tls = tls.await.context("the sealed handshake took too long")?.context("sealed handshake")?;
    let cnf = control_certificate(shared, &tls)?;
    match first_frame(&mut tls, limit).await {
        Ok(OpenRequest::Direct { token }) => {
            let presented = Presented { kind: StreamKind::Sealed, sid: &tunnel.sid, cnf: &cnf };
            open(shared, tunnel, tls, &token, &presented).await
        }
        Ok(OpenRequest::Sealed) => refuse(&mut tls, &Refusal::BadFrame, limit).await,
        Err(refusal) => refuse(&mut tls, &refusal, limit).await,
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

/// Judges the token, dials, and carries.
async fn open<T>(
    shared: &Shared,
    tunnel: &Tunnel,
    mut io: T,
    token: &str,
    presented: &Presented<'_>,
) -> anyhow::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let limit = shared.pieces.limits.handshake;
    let mut lists = shared.lists.subscribe();
    let granted = match admit(shared, token, presented) {
        Ok(granted) => granted,
        Err(refusal) => {
            tracing::warn!(gateway = %tunnel.gateway, code = refusal.code(), %refusal, "stream refused");
            return refuse(&mut io, &refusal, limit).await;
        }
    };
    let dialled = tokio::select! {
        dialled = dial(shared, &granted) => dialled,
        // Nothing may come before the answer; an end means that nobody waits for it any more.
        early = io.read_u8() => {
            ensure!(early.is_err(), "the caller sent bytes before it had an answer");
            return Ok(());
        }
    };
    let target = match dialled {
        Ok(target) => target,
        Err(refusal) => {
            tracing::info!(resource = %granted.resource(), caller = granted.caller(), code = refusal.code(), "target not reached");
            return refuse(&mut io, &refusal, limit).await;
        }
    };
    write_frame(&mut io, &OpenReply::Open, limit).await.context("answering the caller")?;
    let at = target.peer_addr().context("the target has gone")?;
    let mut target = Counted { tcp: target, down: 0, up: 0 };
    let ended = tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut io, &mut target, COPY_BUFFER, COPY_BUFFER) => ended.map(|_| "closed"),
        () = withdrawn(shared, &granted, at, &mut lists) => Ok("no longer on the allow-list"),
    };
    target.log_end(&granted, tunnel, &ended);
    Ok(())
}

/// Many streams are judged at a time: the lock is held for the memory of spent tokens only.
fn admit(shared: &Shared, token: &str, presented: &Presented<'_>) -> Result<Granted, Refusal> {
    let now = now();
    let examiner = shared.gatekeeper().examiner()?;
    let examined = examiner.examine(token, presented, now)?;
    let spent = shared.gatekeeper().spend(examined, now)?;
    spent.grant(now)
}

/// Returns when a new list no longer has what was granted, or no longer lets the address `at` be dialled for it.
async fn withdrawn(shared: &Shared, granted: &Granted, at: SocketAddr, lists: &mut tokio::sync::watch::Receiver<u64>) {
    while lists.changed().await.is_ok() {
        let list = shared.gatekeeper().list();
        let networks = list.and_then(|list| list.still_allows(granted));
        if networks.is_none_or(|networks| DialGuard::new(networks).permit(&[at.ip()], at.port()).is_err()) {
            return;
        }
    }
}

async fn refuse(io: &mut (impl AsyncWrite + Unpin), refusal: &Refusal, limit: Duration) -> anyhow::Result<()> {
    write_frame(io, &OpenReply::from(refusal), limit).await.context("refusing a stream")?;
    timeout(limit, io.shutdown()).await.context("closing a refused stream")?.context("closing a refused stream")
}

/// A target's connection that counts what passes.
struct Counted {
    tcp: TcpStream,
    down: u64,
    up: u64,
}

impl Counted {
    fn log_end(&self, granted: &Granted, tunnel: &Tunnel, ended: &io::Result<&str>) {
        let how = match ended {
            Ok(how) => (*how).to_owned(),
            Err(error) => error.to_string(),
        };
        if !matches!(ended, Ok("closed")) {
            // Broken off, not ended: the target must not take what it has got for the whole.
            if let Err(error) = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "socket option was not taken");
            }
        }
        tracing::info!(
            resource = %granted.resource(),
            caller = granted.caller(),
            gateway = %tunnel.gateway,
            bytes_up = self.up,
            bytes_down = self.down,
            how,
            "stream ended"
        );
        tracing::debug!(resource = %granted.resource(), subject = granted.subject(), "stream was on behalf of");
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.down += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.up += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
