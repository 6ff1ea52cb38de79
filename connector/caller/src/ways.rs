//! Several ways to one target: the first that opens is taken.

use std::{collections::VecDeque, pin::pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use sluice_connector_wire::{ClassPair, Target};
use sluice_node_identity::{NodeId, ResourceId, TenantId};
use tokio::time::{Instant, sleep};

use crate::{CallError, Gateway, SealedAsk, SealedCaller, SealedStream};

/// One way to a target.
#[derive(Clone, Debug)]
pub struct Way {
    /// Through whom.
    pub gateway: Gateway,
    /// To whom.
    pub connector: NodeId,
    /// In which of its tunnels.
    pub sid: String,
}

/// What is wanted, whichever way it comes.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Whose connectors, gateways and resource.
    pub tenant: &'a TenantId,
    /// Which resource.
    pub resource: &'a ResourceId,
    /// Its exact target.
    pub target: &'a Target,
    /// On whose behalf: `user/<id>` or `service/<name>`.
    pub subject: &'a str,
    /// Which of a tunnel's connections should carry it.
    pub pair: ClassPair,
}

impl SealedCaller {
    /// Opens a stream by the first of these ways that opens one. They are tried in order, each when the one before has
    /// failed or has been silent for [`crate::Limits::hedge`]; every way gets a token of its own, and what opens too
    /// late is closed.
    ///
    /// # Errors
    /// Of the way that failed last; of one after which trying again may help, if there is such a one; `None` when there
    /// is no way. `failed` hears of each. A connector that refuses for good is not asked by another way: what is wrong
    /// may be its own clock or list.
    pub async fn open_any(
        &self,
        ways: &[Way],
        wish: &Wish<'_>,
        mut failed: impl FnMut(&Way, &CallError),
    ) -> Result<SealedStream, Option<CallError>> {
        let (mut left, mut running) = (VecDeque::from_iter(ways), FuturesUnordered::new());
        let mut patience = pin!(sleep(Duration::ZERO));
        let (mut last, mut start) = (None, true);
        loop {
            if let Some(way) = start.then(|| left.pop_front()).flatten() {
                patience.as_mut().reset(Instant::now() + self.limits.hedge);
                running.push(async move { (self.open(&way.gateway, &wish.by(way)).await, way) });
            }
            start = tokio::select! {
                ended = running.next() => match ended {
                    None => return Err(last),
                    Some((Ok(stream), _)) => return Ok(stream),
                    Some((Err(error), way)) => {
                        failed(way, &error);
                        if let CallError::Refused { retry: false, .. } = &error {
                            left.retain(|other| other.connector != way.connector);
                        } else if !error.retry() {
                            return Err(Some(error));
                        }
                        last = Some(error.or_more_hopeful(last));
                        true
                    }
                },
                () = &mut patience, if !left.is_empty() => true,
            };
        }
    }
}

impl<'a> Wish<'a> {
    fn by(&self, way: &'a Way) -> SealedAsk<'a> {
        let Self { tenant, resource, target, subject, pair } = *self;
        SealedAsk { tenant, connector: &way.connector, sid: &way.sid, resource, target, subject, pair }
    }
}
