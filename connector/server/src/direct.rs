//! Direct streams: the gateway asks connectors for a target on behalf of its user.

use std::{collections::VecDeque, io, pin::pin, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{StreamExt, stream::FuturesUnordered};
use sluice_connector_mux::{read_frame, write_frame};
use sluice_connector_wire::{ClassPair, OpenReply, OpenRequest, Refusal, StreamClaims, Target, sign_stream_token};
use sluice_node_identity::{NodeId, ResourceId, UnixTime};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::{
    DirectStream, TunnelServer,
    choice::Way,
    leg::{NoStream, Opened},
};

/// Round-trip times of a connection that an answer may take before the next way is tried beside it.
const HEDGE_ROUND_TRIPS: u32 = 4;

/// Seconds for which a token is good: it is used at once, and the agent has to remember it 30 s longer.
const TOKEN_LIFE: u64 = 5;

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
    /// Which of a tunnel's connections should carry it.
    pub pair: ClassPair,
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

impl OpenError {
    /// Whether trying again may help without anybody changing anything.
    #[must_use]
    pub const fn retry(&self) -> bool {
        match self {
            Self::NoTunnel | Self::Busy | Self::Broken(_) => true,
            Self::Refused { retry, .. } => *retry,
            Self::Cut | Self::Sign(_) => false,
        }
    }

    /// This error, unless there is an `earlier` one after which trying again may help and this one says that it cannot.
    fn or_more_hopeful(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if earlier.retry() && !self.retry() => earlier,
            _ => self,
        }
    }

    /// Whether there was no answer in time, as opposed to a bad one.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Broken(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

impl TunnelServer {
    /// Opens a stream to `ask.target` the best way there is now. A way that has not answered in four round-trip times
    /// (at least 250 ms) gets another beside it; the first stream to open is given, the others are reset. Every way
    /// gets a token of its own. A connector that refuses for good is not asked again, and for some seconds asked last:
    /// what is wrong may be its own clock or list.
    ///
    /// # Errors
    /// [`OpenError`] of the last way; of one after which trying again may help, if there is such a one.
    pub async fn open_direct(&self, ask: &DirectAsk<'_>, now: UnixTime) -> Result<DirectStream, OpenError> {
        let subject = self.shared.subjects.enter(ask.subject);
        let opened = tokio::select! {
            opened = self.race(ask, now) => opened?,
            () = subject.cut.cancelled() => return Err(OpenError::Cut),
        };
        Ok(DirectStream::new(opened, subject))
    }

    async fn race(&self, ask: &DirectAsk<'_>, now: UnixTime) -> Result<Opened, OpenError> {
        let limits = &self.shared.limits;
        let began = Instant::now();
        let mut left = VecDeque::from(self.shared.registry.ways(ask.connectors, ask.pair));
        let (mut tries, mut running) = (FuturesUnordered::new(), Vec::new());
        let mut attempts = limits.attempts;
        let mut patience = pin!(sleep(Duration::ZERO));
        let mut last = None;
        let mut next = left.pop_front();
        loop {
            if let Some(way) = next.take().filter(|_| attempts > 0) {
                attempts -= 1;
                patience.as_mut().reset(Instant::now() + limits.hedge.max(way.leg.rtt() * HEDGE_ROUND_TRIPS));
                running.push(way.clone());
                let at = now.plus(began.elapsed().as_secs());
                tries.push(async move { (self.try_way(&way, ask, at).await, way) });
            }
            tokio::select! {
                ended = tries.next() => match ended {
                    None => return Err(last.unwrap_or(OpenError::NoTunnel)),
                    Some((Ok(opened), _)) => return Ok(opened),
                    Some((Err(error @ OpenError::Sign(_)), _)) => return Err(error),
                    Some((Err(error), way)) => {
                        running.retain(|other| !Arc::ptr_eq(&other.leg, &way.leg));
                        if !error.retry() {
                            // Its clock, its list, its network: another connector may have them right.
                            way.leg.agent().has_refused();
                            left.retain(|other| other.leg.facts.connector != way.leg.facts.connector);
                        }
                        last = Some(error.or_more_hopeful(last));
                        next = left.pop_front();
                    }
                },
                () = &mut patience, if attempts > 0 && !left.is_empty() => {
                    let other = left.iter().position(|way| running.iter().all(|one| way.is_independent_of(one)));
                    next = other.and_then(|at| left.remove(at));
                    if next.is_none() {
                        patience.as_mut().reset(Instant::now() + limits.answer);
                    }
                }
            }
        }
    }

    async fn try_way(&self, way: &Way, ask: &DirectAsk<'_>, now: UnixTime) -> Result<Opened, OpenError> {
        let (limit, leg) = (self.shared.limits.answer, &way.leg);
        let token = self.mint(way, ask, now)?;
        let mut opened = leg.open().await.map_err(|error| match error {
            NoStream::Full => OpenError::Busy,
            NoStream::Broken(error) => OpenError::Broken(error),
        })?;
        let stream = &mut opened.stream;
        let asked = async {
            write_frame(stream, &OpenRequest::Direct { token }, limit).await?;
            read_frame(stream, limit).await
        };
        match asked.await {
            Ok(OpenReply::Open) => Ok(opened),
            Ok(OpenReply::Refused { code, message, retry }) => {
                let stale = code == Refusal::WrongCertificate.code();
                if stale {
                    // Our certificate changed between handshake and registration: a new one will have it right.
                    leg.close.cancel();
                }
                Err(OpenError::Refused { code, message, retry: retry || stale })
            }
            Err(error) => {
                // An agent answers well before this; one that does not is asked no more here, however well it pings.
                if error.kind() == io::ErrorKind::TimedOut {
                    leg.wear_out();
                }
                Err(OpenError::Broken(error))
            }
        }
    }

    fn mint(&self, way: &Way, ask: &DirectAsk<'_>, now: UnixTime) -> Result<String, OpenError> {
        let mut jti = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut jti).map_err(|_| sluice_connector_wire::SignError::Failed)?;
        let facts = &way.leg.facts;
        let claims = StreamClaims {
            iss: self.shared.signer.id().to_owned(),
            aud: facts.connector.clone(),
            sub: ask.subject.to_owned(),
            res: ask.resource.clone(),
            tgt: ask.target.clone(),
            sid: facts.sid.clone(),
            cnf: facts.cnf.clone(),
            iat: now,
            exp: now.plus(TOKEN_LIFE),
            jti: URL_SAFE_NO_PAD.encode(jti),
        };
        Ok(sign_stream_token(&claims, &self.shared.signer)?)
    }
}
