//! Direct streams: the gateway asks a connector for a target on behalf of its user.

use std::{
    collections::BTreeMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_wire::{MAX_TOKEN_LIFE, OpenReply, OpenRequest, StreamClaims, Target, sign_stream_token};
use sluice_node_identity::{NodeId, ResourceId, UnixTime};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::Instant,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    TunnelServer,
    registry::{Opened, Tunnel},
};

/// What a direct stream is for.
#[derive(Clone, Copy, Debug)]
pub struct DirectAsk<'a> {
    /// Any of these can reach it.
    pub connectors: &'a [NodeId],
    /// Which resource.
    pub resource: &'a ResourceId,
    /// Its exact target.
    pub target: &'a Target,
    /// On whose behalf: `user/<id>`. [`TunnelServer::cut`] ends the stream by it.
    pub subject: &'a str,
}

/// Why there is no stream.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No tunnel of any of the connectors.
    #[error("no connector of this resource is connected; check that one runs and reaches this gateway")]
    NoTunnel,
    /// All tunnels are full.
    #[error("the connectors of this resource carry as many streams as they may; try again later")]
    Busy,
    /// A connector said no.
    #[error("the connector refused ({code}): {message}")]
    Refused {
        /// [`sluice_connector_wire::Refusal::code`].
        code: String,
        /// For people.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// The tunnel broke, or the connector did not answer.
    #[error("the tunnel broke while the stream was being opened; try again")]
    Broken(#[source] io::Error),
    /// The user's access ended meanwhile.
    #[error("access was withdrawn")]
    Cut,
    /// Our own key does not work.
    #[error(transparent)]
    Sign(#[from] sluice_connector_wire::SignError),
}

impl TunnelServer {
    /// Opens a stream to `ask.target`, minting a token for each tunnel it tries.
    ///
    /// # Errors
    /// [`OpenError`] of the last tunnel tried.
    pub async fn open_direct(&self, ask: &DirectAsk<'_>, now: UnixTime) -> Result<DirectStream, OpenError> {
        let subject = self.shared.subjects.enter(ask.subject);
        let began = Instant::now();
        let mut last = OpenError::NoTunnel;
        for tunnel in self.shared.registry.candidates(ask.connectors).into_iter().take(self.shared.limits.attempts) {
            let opening = self.try_tunnel(&tunnel, ask, now.plus(began.elapsed().as_secs()));
            let opened = tokio::select! {
                opened = opening => opened,
                () = subject.cut.cancelled() => return Err(OpenError::Cut),
            };
            match opened {
                Ok(opened) => return Ok(DirectStream::new(opened, subject)),
                Err(OpenError::Refused { code, message, retry: false }) => {
                    return Err(OpenError::Refused { code, message, retry: false });
                }
                Err(other) => last = other,
            }
        }
        Err(last)
    }

    async fn try_tunnel(&self, tunnel: &Tunnel, ask: &DirectAsk<'_>, now: UnixTime) -> Result<Opened, OpenError> {
        let limit = self.shared.limits.answer;
        let token = self.mint(tunnel, ask, now)?;
        let mut opened = tunnel.open().await.ok_or(OpenError::Busy)?;
        let stream = &mut opened.stream;
        let asked = async {
            write_frame(stream, &OpenRequest::Direct { token }, limit).await?;
            read_frame(stream, limit).await
        };
        match asked.await {
            Ok(OpenReply::Open) => Ok(opened),
            Ok(OpenReply::Refused { code, message, retry }) => {
                let stale = code == sluice_connector_wire::Refusal::WrongCertificate.code();
                if stale {
                    // Our certificate changed between handshake and registration: a new tunnel will have it right.
                    tunnel.close.cancel();
                }
                Err(OpenError::Refused { code, message, retry: retry || stale })
            }
            Err(error) => {
                // An agent answers well before this; a silent one is behind a dead line that TCP has not noticed.
                if error.kind() == io::ErrorKind::TimedOut {
                    tunnel.close.cancel();
                }
                Err(OpenError::Broken(error))
            }
        }
    }

    fn mint(&self, tunnel: &Tunnel, ask: &DirectAsk<'_>, now: UnixTime) -> Result<String, OpenError> {
        let mut jti = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut jti).map_err(|_| sluice_connector_wire::SignError::Failed)?;
        let claims = StreamClaims {
            iss: self.shared.signer.id().to_owned(),
            aud: tunnel.connector.clone(),
            sub: ask.subject.to_owned(),
            res: ask.resource.clone(),
            tgt: ask.target.clone(),
            sid: tunnel.sid.clone(),
            cnf: tunnel.cnf.clone(),
            iat: now,
            exp: now.plus(MAX_TOKEN_LIFE),
            jti: URL_SAFE_NO_PAD.encode(jti),
        };
        Ok(sign_stream_token(&claims, &self.shared.signer)?)
    }
}

/// An open direct stream. After [`TunnelServer::cut`] of its subject every read and write fails with
/// `ConnectionAborted`. Dropping it without a shutdown resets it.
pub struct DirectStream {
    stream: Stream,
    // Reader and writer may be different tasks, and each future wakes one.
    cut_for_reader: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_for_writer: Pin<Box<WaitForCancellationFutureOwned>>,
    _room: OwnedSemaphorePermit,
    _subject: Entered,
}

impl DirectStream {
    fn new(opened: Opened, subject: Entered) -> Self {
        let waiting = || Box::pin(subject.cut.clone().cancelled_owned());
        Self {
            stream: opened.stream,
            cut_for_reader: waiting(),
            cut_for_writer: waiting(),
            _room: opened.room,
            _subject: subject,
        }
    }

    fn check_writer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        still_open(&mut self.cut_for_writer, cx)
    }
}

fn still_open(cut: &mut Pin<Box<WaitForCancellationFutureOwned>>, cx: &mut Context<'_>) -> io::Result<()> {
    match cut.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "access was withdrawn")),
        Poll::Pending => Ok(()),
    }
}

impl fmt::Debug for DirectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirectStream").field(&self.stream).finish()
    }
}

impl AsyncRead for DirectStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        still_open(&mut self.cut_for_reader, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for DirectStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_writer(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writer(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writer(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// On whose behalf streams are open.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    open: Mutex<OpenStreams>,
}

#[derive(Debug, Default)]
struct OpenStreams {
    next: u64,
    streams: BTreeMap<u64, (String, CancellationToken)>,
}

/// One stream's entry in [`Subjects`].
struct Entered {
    subjects: Arc<Subjects>,
    number: u64,
    cut: CancellationToken,
}

impl Subjects {
    fn enter(self: &Arc<Self>, subject: &str) -> Entered {
        let cut = CancellationToken::new();
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, (subject.to_owned(), cut.clone()));
        Entered { subjects: self.clone(), number, cut }
    }

    pub(crate) fn cut(&self, subject: &str) -> usize {
        let open = self.lock();
        open.streams.values().filter(|(other, _)| other == subject).map(|(_, cut)| cut.cancel()).count()
    }

    fn lock(&self) -> MutexGuard<'_, OpenStreams> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.subjects.lock().streams.remove(&self.number);
    }
}
