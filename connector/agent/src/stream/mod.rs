//! One stream: who asks, may they, connect, carry bytes, say how it ended.

mod sealed;
mod tcp;
mod udp;
mod watch;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_connector_mux::{Datagrams, PollReset, Stream, read_frame, write_frame};
use sluice_connector_wire::{Denied, Granted, OpenReply, OpenRequest, Presented, Refusal, StreamKind};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch::Receiver,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use crate::{
    Shared,
    dial::{Reached, dial},
    ledger::{Asked, CLOSED, Entry, Facts},
    link::Tunnel,
    now,
    places::Place,
};

/// Carries one stream from its first frame to its end.
pub(crate) async fn carry(shared: Arc<Shared>, tunnel: Arc<Tunnel>, mut stream: Stream, draining: bool) {
    let limit = shared.pieces.limits.handshake;
    let asking = shared.asking.take(tunnel.gateway.as_str());
    let done = async {
        let request = match (&asking, draining) {
            (_, true) => Err(Refusal::Draining),
            (None, _) => Err(Refusal::Busy),
            (Some(_), false) => first_frame(&mut stream, limit).await,
        };
        match request {
            Err(refusal) => {
                shared.ledger.refused(&tunnel.way(), StreamKind::Direct, &refusal, None);
                refuse(&mut stream, &refusal, limit).await
            }
            Ok(OpenRequest::Direct { token }) => {
                let presented = tunnel.presented();
                open(&shared, &tunnel, stream, &token, &presented, asking).await
            }
            Ok(OpenRequest::Sealed) => sealed::accept(&shared, &tunnel, stream, asking).await,
        }
    };
    if let Err(error) = done.await {
        tracing::debug!(gateway = %tunnel.gateway, error = format!("{error:#}"), "stream was not carried");
    }
}

async fn first_frame(io: &mut (impl AsyncRead + Unpin), limit: Duration) -> Result<OpenRequest, Refusal> {
    read_frame(io, limit).await.map_err(|_| Refusal::BadFrame)
}

/// What a stream's bytes, or its datagrams, travel in.
trait Carrier: AsyncRead + AsyncWrite + PollReset + Unpin + Send + 'static {
    fn into_datagrams(self) -> Datagrams;
}

impl Carrier for Stream {
    fn into_datagrams(self) -> Datagrams {
        Self::into_datagrams(self)
    }
}

impl Carrier for TlsStream<Stream> {
    fn into_datagrams(self) -> Datagrams {
        Datagrams::framed(self)
    }
}

/// Judges the token, dials, and carries. `asking` is the place of a stream whose token nobody has seen; a good one gets
/// another, of its caller's.
async fn open<T>(
    shared: &Shared,
    tunnel: &Tunnel,
    mut io: T,
    token: &str,
    presented: &Presented<'_>,
    asking: Option<Place>,
) -> anyhow::Result<()>
where
    T: Carrier,
{
    let limit = shared.pieces.limits.handshake;
    let lists = shared.lists.subscribe();
    let granted = match admit(shared, token, presented) {
        Ok(granted) => granted,
        Err(NotAdmitted::Denied(denied)) => {
            let asked = Asked { claims: &denied.claims, rule: &denied.rule };
            shared.ledger.refused(&tunnel.way(), presented.kind, &denied.refusal, Some(&asked));
            return refuse(&mut io, &denied.refusal, limit).await;
        }
        Err(NotAdmitted::Refused(refusal)) => {
            shared.ledger.refused(&tunnel.way(), presented.kind, &refusal, None);
            return refuse(&mut io, &refusal, limit).await;
        }
    };
    drop(asking);
    let Some(_place) = shared.streams.take(granted.caller()) else {
        let asked = Asked { claims: granted.claims(), rule: granted.rule() };
        shared.ledger.refused(&tunnel.way(), presented.kind, &Refusal::Busy, Some(&asked));
        return refuse(&mut io, &Refusal::Busy, limit).await;
    };
    let knock = shared.ledger.knock(Facts::new(&granted, presented.kind, &tunnel.way()));
    let dialled = tokio::select! {
        dialled = dial(shared, &granted) => dialled,
        // Nothing may come before the answer; an end means that nobody waits for it any more.
        early = io.read_u8() => {
            ensure!(early.is_err(), "the caller sent bytes before it had an answer");
            return Ok(());
        }
    };
    let reached = dialled.and_then(|target| {
        let at = target.at().map_err(|_| Refusal::Unreachable)?;
        // Dialling takes its time: what was allowed when it began may be so no longer.
        if watch::allows(shared, &granted, at) { Ok((target, at)) } else { Err(Refusal::NotAllowed) }
    });
    let (target, at) = match reached {
        Ok(reached) => reached,
        Err(refusal) => {
            let asked = Asked { claims: granted.claims(), rule: granted.rule() };
            shared.ledger.refused(&tunnel.way(), presented.kind, &refusal, Some(&asked));
            knock.refused();
            return refuse(&mut io, &refusal, limit).await;
        }
    };
    let entry = knock.enter(at);
    if let Err(error) = write_frame(&mut io, &OpenReply::Open, limit).await {
        entry.end(&Err(error));
        return Ok(());
    }
    run(shared, &granted, (target, at), io, entry, lists).await;
    Ok(())
}

/// Carries bytes or datagrams between `io` and the target until either ends, or the right to them does.
async fn run<T>(
    shared: &Shared,
    granted: &Granted,
    (target, at): (Reached, SocketAddr),
    mut io: T,
    entry: Entry,
    mut lists: Receiver<u64>,
) where
    T: Carrier,
{
    let interrupted = async {
        tokio::select! {
            () = watch::withdrawn(shared, granted, at, &mut lists) => "no longer allowed",
            () = entry.killed() => "killed by an administrator",
        }
    };
    let ended = match target {
        Reached::Tcp(tcp) => {
            let mut target = tcp::Counted::new(tcp, entry.row());
            let ended = tokio::select! {
                biased;
                why = interrupted => Ok(why),
                ended = target.copy(&mut io) => ended.map(|()| CLOSED),
            };
            target.settle(&ended);
            ended
        }
        Reached::Udp(udp) => {
            let (flow, row) = (io.into_datagrams(), entry.row());
            tokio::select! {
                biased;
                why = interrupted => Ok(why),
                ended = udp::copy(&flow, &udp, &row, shared.pieces.limits.udp_idle) => ended,
            }
        }
    };
    entry.end(&ended);
}

/// Many streams are judged at a time: the lock is held for the memory of spent tokens only.
fn admit(shared: &Shared, token: &str, presented: &Presented<'_>) -> Result<Granted, NotAdmitted> {
    let now = now();
    let examiner = shared.gatekeeper().examiner()?;
    let examined = examiner.examine(token, presented, now)?;
    if (shared.pieces.stale)() {
        return Err(Refusal::Stale.into());
    }
    if shared.is_locked(examined.caller()) {
        return Err(Refusal::NotTrusted.into());
    }
    let spent = shared.gatekeeper().spend(examined, now)?;
    spent.grant_or_tell(now).map_err(NotAdmitted::Denied)
}

/// Why a token opens nothing.
enum NotAdmitted {
    /// It is not a good one; whose it is is not known.
    Refused(Refusal),
    /// The list.
    Denied(Box<Denied>),
}

impl From<Refusal> for NotAdmitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn refuse(io: &mut (impl AsyncWrite + Unpin), refusal: &Refusal, limit: Duration) -> anyhow::Result<()> {
    write_frame(io, &OpenReply::from(refusal), limit).await.context("refusing a stream")?;
    timeout(limit, io.shutdown()).await.context("closing a refused stream")?.context("closing a refused stream")
}
