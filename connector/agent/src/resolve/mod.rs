//! Names to addresses, here at the connector: by the system's resolver, or by the site's own DNS servers.

mod settings;

use std::{
    cmp::Reverse,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use futures::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{Name, RData, RecordType},
};
use sluice_connector_wire::Refusal;
use sluice_node_reach::{MAX_ADDRESSES, in_turns};
use tokio::{net::lookup_host, time::timeout};

use crate::places::{Place, Places};

pub use settings::{BadDns, DnsServer, DnsSettings, DnsSuffix};

/// One server's time for one answer; it is asked twice.
const SERVER: Duration = Duration::from_millis(1500);
const TRIES: usize = 2;
/// How long the other family's answer is waited for once one has come. (RFC 8305 §3 has 50 ms; here an answer that
/// comes late could be the only one that the dial guard lets pass.)
const OTHER_FAMILY: Duration = Duration::from_millis(500);
/// Answers kept, of each set of servers.
const CACHE: u64 = 1024;
/// Longest that an answer is kept, however long its TTL, and longest that "there is none" is.
const KEEP: Duration = Duration::from_secs(300);
const KEEP_NONE: Duration = Duration::from_secs(10);

/// Resolves names. Bounded in time and in how many names at once; the answer is judged by the dial guard afterwards.
pub struct Resolver {
    /// Longest suffix first.
    suffixes: Vec<(String, TokioResolver)>,
    rest: Option<TokioResolver>,
    room: Arc<Places>,
    limit: Duration,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let suffixes: Vec<&str> = self.suffixes.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Resolver").field("suffixes", &suffixes).field("system", &self.rest.is_none()).finish()
    }
}

impl Resolver {
    /// Asks as `settings` say, `most` names at a time, `limit` for each. Sends nothing yet.
    ///
    /// # Errors
    /// The settings do not fit together.
    pub fn new(settings: &DnsSettings, most: usize, limit: Duration) -> anyhow::Result<Self> {
        settings.check()?;
        let mut suffixes = settings
            .suffixes
            .iter()
            .map(|suffix| Ok((suffix.name.clone(), ask_these(&suffix.servers)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        suffixes.sort_by_key(|(name, _)| Reverse(name.len()));
        let rest = if settings.servers.is_empty() { None } else { Some(ask_these(&settings.servers)?) };
        Ok(Self { suffixes, rest, room: Places::shared(most), limit })
    }

    /// The addresses of `host`, at most [`MAX_ADDRESSES`], families taking turns. An address is its own.
    ///
    /// # Errors
    /// [`Refusal::Busy`] or [`Refusal::Unresolved`].
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Refusal> {
        self.resolve_for("", host).await
    }

    /// As [`Self::resolve`], for one of several askers, who share the room fairly.
    pub(crate) async fn resolve_for(&self, asker: &str, host: &str) -> Result<Vec<IpAddr>, Refusal> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let room = self.room.take(asker).ok_or(Refusal::Busy)?;
        let suffix = self.suffixes.iter().find(|(suffix, _)| settings::is_below(host, suffix));
        let found = match suffix.map(|(_, servers)| servers).or(self.rest.as_ref()) {
            Some(servers) => {
                timeout(self.limit, both_families(servers, host)).await.map_err(|_| Refusal::Unresolved)?
            }
            None => by_system(host.to_owned(), room, self.limit).await.map_err(|_| Refusal::Unresolved)?,
        };
        let mut addresses = in_turns(&found, IpAddr::is_ipv4);
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() { Err(Refusal::Unresolved) } else { Ok(addresses) }
    }
}

fn ask_these(servers: &[DnsServer]) -> anyhow::Result<TokioResolver> {
    let servers = servers.iter().map(|server| {
        let ways = if server.only_tcp {
            vec![ConnectionConfig::tcp()]
        } else {
            vec![ConnectionConfig::udp(), ConnectionConfig::tcp()]
        };
        let ways = ways.into_iter().map(|mut way| {
            way.port = server.address.port();
            way
        });
        NameServerConfig::new(server.address.ip(), true, ways.collect())
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut options = ResolverOpts::default();
    options.timeout = SERVER;
    options.attempts = TRIES;
    options.cache_size = CACHE;
    options.positive_max_ttl = Some(KEEP);
    options.negative_max_ttl = Some(KEEP_NONE);
    // A file beside the servers could answer otherwise than they do.
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().context("cannot set up the DNS servers of the configuration")
}

async fn both_families(servers: &TokioResolver, host: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_ascii(format!("{host}.")) else { return Vec::new() };
    let six = Box::pin(one_family(servers, name.clone(), RecordType::AAAA));
    let four = Box::pin(one_family(servers, name, RecordType::A));
    let (first, other) = match select(six, four).await {
        Either::Left((first, other)) => (first, Either::Left(other)),
        Either::Right((first, other)) => (first, Either::Right(other)),
    };
    let second = if first.is_empty() { other.await } else { timeout(OTHER_FAMILY, other).await.unwrap_or_default() };
    let mut both = [first, second].concat();
    both.sort_by_key(IpAddr::is_ipv4);
    both
}

async fn one_family(servers: &TokioResolver, name: Name, family: RecordType) -> Vec<IpAddr> {
    let answer = match servers.lookup(name, family).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, %family, "a name was not resolved");
            return Vec::new();
        }
    };
    let addresses = answer.answers().iter().filter_map(|record| match &record.data {
        RData::A(four) => Some(IpAddr::V4(four.0)),
        RData::AAAA(six) => Some(IpAddr::V6(six.0)),
        _ => None,
    });
    addresses.collect()
}

async fn by_system(host: String, room: Place, limit: Duration) -> anyhow::Result<Vec<IpAddr>> {
    // The system's resolver cannot be cancelled, so the room is kept until it has really answered.
    let lookup = tokio::spawn(async move {
        let found: io::Result<Vec<SocketAddr>> = lookup_host((host.as_str(), 0)).await.map(Iterator::collect);
        drop(room);
        found
    });
    let found = timeout(limit, lookup).await.context("too late")?.context("panicked")??;
    Ok(found.iter().map(SocketAddr::ip).collect())
}
