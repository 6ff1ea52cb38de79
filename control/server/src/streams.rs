//! Which streams connectors carry now, as they tell. In memory only: a restart forgets, and they tell again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use sluice_node_identity::{
    KILL_SECONDS, LiveStream, LiveStreams, NodeId, STREAMS_TOLD, SiteId, StreamId, StreamsHeard, TenantId, UnixTime,
};

/// A report is believed this long, seconds: three of its repetitions.
const BELIEVED: u64 = 30;
/// How often a connector tells when nobody looks, seconds.
const SELDOM: u64 = 10;
/// How often while somebody looks at its tenant's streams, seconds.
const OFTEN: u64 = 1;
/// Who looked is taken to look still for so long, seconds: three refreshes of the page.
const LOOKING: u64 = 15;
/// Most orders to end streams of one connector that stand at a time.
const KILLS: usize = 1_000;

/// What one connector told.
#[derive(Debug)]
struct Told {
    at: UnixTime,
    site: SiteId,
    live: LiveStreams,
}

#[derive(Debug, Default)]
struct Inner {
    told: BTreeMap<(TenantId, NodeId), Told>,
    /// When somebody looked last.
    looked: HashMap<TenantId, UnixTime>,
    /// Orders that stand, with their end.
    kills: HashMap<(TenantId, NodeId), BTreeMap<StreamId, UnixTime>>,
}

/// The registry. Shared behind an `Arc`; bounded by the connectors that exist, since only joined ones report.
#[derive(Debug, Default)]
pub struct Streams(Mutex<Inner>);

/// One stream and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) connector: NodeId,
    pub(crate) site: SiteId,
    pub(crate) stream: LiveStream,
    /// When the connector told so.
    pub(crate) told: UnixTime,
}

/// Whether a stream is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is.
    Yes(Box<LiveStream>),
    /// The connector has more streams than it told.
    Perhaps,
    /// It is not.
    No,
}

impl Streams {
    /// Replaces what `connector` carries. Gives when to tell again, and the orders that are done or out of date.
    pub(crate) fn tell(
        &self,
        (tenant, connector): (&TenantId, &NodeId),
        site: &SiteId,
        live: LiveStreams,
        now: UnixTime,
    ) -> (StreamsHeard, Vec<StreamId>) {
        let mut inner = self.inner();
        inner.told.retain(|_, told| now.since(told.at) <= BELIEVED);
        inner.looked.retain(|_, at| now.since(*at) <= LOOKING);
        let key = (tenant.clone(), connector.clone());
        let whole = usize::try_from(live.total).is_ok_and(|total| total <= live.streams.len());
        let mut done = Vec::new();
        if let Some(kills) = inner.kills.get_mut(&key) {
            kills.retain(|id, until| {
                let stands = *until >= now && !(whole && live.streams.iter().all(|stream| stream.id != *id));
                if !stands {
                    done.push(*id);
                }
                stands
            });
        }
        inner.kills.retain(|_, kills| !kills.is_empty());
        let again_in = if inner.looked.contains_key(tenant) { OFTEN } else { SELDOM };
        inner.told.insert(key, Told { at: now, site: site.clone(), live });
        (StreamsHeard { again_in }, done)
    }

    /// The tenant's streams that `wanted` lets pass, ordered by connector and stream, beginning after `after`. From now
    /// on connectors tell more often, for a while.
    pub(crate) fn look(
        &self,
        tenant: &TenantId,
        wanted: impl Fn(&NodeId, &SiteId) -> bool,
        after: Option<&(NodeId, StreamId)>,
        limit: usize,
        now: UnixTime,
    ) -> Vec<Running> {
        let mut inner = self.inner();
        inner.looked.insert(tenant.clone(), now);
        let mut found = Vec::new();
        let ours = inner.told.iter().filter(|((owner, _), told)| owner == tenant && now.since(told.at) <= BELIEVED);
        for ((_, connector), told) in ours.filter(|((_, connector), told)| wanted(connector, &told.site)) {
            if found.len() >= limit || after.is_some_and(|(last, _)| connector < last) {
                continue;
            }
            let mut streams: Vec<&LiveStream> = told.live.streams.iter().collect();
            streams.sort_by_key(|stream| stream.id);
            let later = |stream: &&LiveStream| {
                after.is_none_or(|(last, id)| connector > last || (connector == last && stream.id > *id))
            };
            found.extend(streams.into_iter().filter(later).map(|stream| Running {
                connector: connector.clone(),
                site: told.site.clone(),
                stream: stream.clone(),
                told: told.at,
            }));
        }
        found.truncate(limit);
        found
    }

    /// What `connector` told: when, how many streams there are, and how many of them it listed.
    pub(crate) fn told(&self, tenant: &TenantId, connector: &NodeId, now: UnixTime) -> Option<(UnixTime, u32, usize)> {
        let inner = self.inner();
        let told = inner.told.get(&(tenant.clone(), connector.clone()));
        let told = told.filter(|told| now.since(told.at) <= BELIEVED)?;
        Some((told.at, told.live.total, told.live.streams.len()))
    }

    /// Whether `connector` carries this stream.
    pub(crate) fn find(&self, tenant: &TenantId, connector: &NodeId, id: StreamId, now: UnixTime) -> Found {
        let inner = self.inner();
        let told = inner.told.get(&(tenant.clone(), connector.clone()));
        let Some(told) = told.filter(|told| now.since(told.at) <= BELIEVED) else { return Found::No };
        match told.live.streams.iter().find(|stream| stream.id == id) {
            Some(stream) => Found::Yes(Box::new(stream.clone())),
            None if usize::try_from(told.live.total).is_ok_and(|total| total > STREAMS_TOLD) => Found::Perhaps,
            None => Found::No,
        }
    }

    /// Remembers an order to end a stream, so that it is taken back when it is done. False when too many stand.
    pub(crate) fn ordered(&self, tenant: &TenantId, connector: &NodeId, id: StreamId, now: UnixTime) -> bool {
        let mut inner = self.inner();
        let kills = inner.kills.entry((tenant.clone(), connector.clone())).or_default();
        kills.retain(|_, until| *until >= now);
        let room = kills.len() < KILLS;
        if room {
            kills.insert(id, now.plus(KILL_SECONDS));
        }
        room
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
