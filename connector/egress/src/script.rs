//! The PAC script: where it lies, when it is fetched again, what it said lately.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use sluice_connector_webproxy::{Target, Way, pac_result};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::{
    connected::Io,
    dial::{self, Resolver},
    worker::{Answer, Ask, Done, Help, Kind, MAX_SCRIPT, Staff},
};

/// Where the script is.
#[derive(Clone, Debug)]
pub enum PacSource {
    /// This one, read from a file at start.
    Text(String),
    /// At this URL (http or https), fetched directly, again every so often; the last good one stays in use.
    Url {
        /// Where.
        url: String,
        /// How often.
        refresh: Duration,
    },
}

/// A script in use.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: PacSource,
    pub(crate) workers: Staff,
    pub(crate) resolver: Resolver,
    pub(crate) tls: Arc<ClientConfig>,
    /// The fetched text, or why there is none. Held while fetching, so that one fetch serves all who wait.
    fetched: tokio::sync::Mutex<Option<Until<Result<String, String>>>>,
    answers: Mutex<BTreeMap<Target, Arc<Slot>>>,
}

/// The answer for one target. Held while evaluating, so that one evaluation serves all who wait.
type Slot = tokio::sync::Mutex<Option<Until<Said>>>;
/// The ways, and the script's words for people; or why there are none.
type Said = Result<(Vec<Way>, String), String>;

/// What is good for a while.
#[derive(Debug)]
struct Until<T> {
    what: T,
    end: Instant,
}

impl<T> Until<T> {
    fn new(what: T, time: Duration) -> Self {
        Self { what, end: Instant::now() + time }
    }

    fn is_good(&self) -> bool {
        Instant::now() < self.end
    }
}

impl Script {
    pub(crate) fn new(
        source: PacSource,
        workers: Staff,
        resolver: Resolver,
        tls: Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        match &source {
            PacSource::Text(text) => {
                ensure!(text.len() <= MAX_SCRIPT, "the PAC script is longer than {MAX_SCRIPT} bytes");
            }
            PacSource::Url { url, .. } => drop(place(url)?),
        }
        Ok(Self { source, workers, resolver, tls, fetched: Default::default(), answers: Default::default() })
    }

    /// What the script returns for `target`: its ways, and the text for people.
    pub(crate) async fn ways(&self, target: &Target) -> Said {
        let slot = self.slot(target);
        let mut held = slot.lock().await;
        if let Some(said) = held.as_ref().filter(|said| said.is_good()) {
            return said.what.clone();
        }
        let said = self.evaluate(target).await.and_then(|text| {
            let ways = pac_result(&text).map_err(|error| error.to_string())?;
            Ok((ways, text.chars().filter(|c| !c.is_control()).take(200).collect()))
        });
        *held = Some(Until::new(said.clone(), if said.is_ok() { ANSWER_TIME } else { FAILURE_TIME }));
        said
    }

    fn slot(&self, target: &Target) -> Arc<Slot> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = answers.get(target) {
            return slot.clone();
        }
        if answers.len() >= MAX_ANSWERS {
            let good = |slot: &Slot| slot.try_lock().map_or(true, |said| said.as_ref().is_some_and(Until::is_good));
            answers.retain(|_, slot| Arc::strong_count(slot) > 1 || good(slot));
        }
        let slot = Arc::<Slot>::default();
        if answers.len() < MAX_ANSWERS {
            answers.insert(target.clone(), slot.clone());
        }
        slot
    }

    async fn evaluate(&self, target: &Target) -> Result<String, String> {
        let script = self.text().await?;
        let host = target.host().to_owned();
        let url = format!("https://{target}/").replace(":443/", "/");
        let job = self.workers.start(Kind::Pac).await;
        let mut job = job.map_err(|error| format!("no worker process for the PAC script: {error}"))?;
        let names = Names { script: self, asked: AtomicUsize::new(0) };
        match job.ask(&Ask::Pac { script, url, host, mine: own_address() }, &names).await {
            Ok(Done::Text(text)) => Ok(text),
            Ok(_) => Err("the PAC worker answered something else".to_owned()),
            Err(why) => Err(format!("the PAC script fails: {why}")),
        }
    }

    /// The functions of 1996 know IPv4 only.
    async fn address(&self, name: &str) -> Option<String> {
        let name = Target::new(name, 1).ok()?;
        let found = self.resolver.resolve(name.host()).await.ok()?;
        found.iter().find(|address| address.is_ipv4()).map(IpAddr::to_string)
    }

    async fn text(&self) -> Result<String, String> {
        let (url, refresh) = match &self.source {
            PacSource::Text(text) => return Ok(text.clone()),
            PacSource::Url { url, refresh } => (url, *refresh),
        };
        let mut fetched = self.fetched.lock().await;
        if let Some(known) = fetched.as_ref().filter(|known| known.is_good()) {
            return known.what.clone();
        }
        let found = timeout(FETCH_TIME, self.fetch(url)).await.context("it takes too long").and_then(|found| found);
        let last = fetched.take().and_then(|known| known.what.ok());
        let known = match (found, last) {
            (Ok(text), _) => Until::new(Ok(text), refresh),
            (Err(error), Some(last)) => {
                tracing::warn!(%url, "the PAC script cannot be fetched again: {error:#}; the last one stays in use");
                Until::new(Ok(last), RETRY)
            }
            (Err(error), None) => {
                Until::new(Err(format!("the PAC script at {url} cannot be fetched: {error:#}")), FAILURE_TIME)
            }
        };
        fetched.insert(known).what.clone()
    }

    async fn fetch(&self, url: &str) -> anyhow::Result<String> {
        let (uri, target, tls) = place(url)?;
        let addresses = self.resolver.resolve(target.host()).await.context("its host cannot be resolved")?;
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|at| SocketAddr::new(at, target.port())).collect();
        let tcp = dial::connect(&addresses, Instant::now() + FETCH_TIME).await.context("its host does not answer")?;
        let io = if tls {
            let name = ServerName::try_from(target.host().to_owned())?;
            Io::Tls(Box::new(TlsConnector::from(self.tls.clone()).connect(name, tcp).await.context("TLS")?))
        } else {
            Io::Tcp(tcp)
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "its host answers {}", response.status());
        let body = Limited::new(response.into_body(), MAX_SCRIPT).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// Looks names up for one evaluation.
struct Names<'a> {
    script: &'a Script,
    asked: AtomicUsize,
}

impl Help for Names<'_> {
    async fn help(&self, asked: &Answer) -> Option<Ask> {
        match asked {
            // Beyond its share every name is unknown. Counted here: who asks runs what a stranger wrote.
            Answer::Resolve(_) if self.asked.fetch_add(1, Relaxed) >= MAX_NAMES => Some(Ask::Address(None)),
            Answer::Resolve(name) => Some(Ask::Address(self.script.address(name).await)),
            _ => None,
        }
    }
}

/// A URL's parts, and whether it is https.
fn place(url: &str) -> anyhow::Result<(Uri, Target, bool)> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => bail!("{url:?} must be http:// or https://"),
    };
    let authority = uri.authority().with_context(|| format!("{url:?} names no host"))?;
    ensure!(!authority.as_str().contains('@'), "the PAC script's URL must hold no credentials");
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let target = Target::new(host, port)?;
    Ok((uri, target, tls))
}

/// The address by which this machine goes out: of IPv4 if it has one, as scripts expect.
fn own_address() -> String {
    let places =
        [IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
    places.into_iter().find_map(leaving_for).unwrap_or(IpAddr::from(Ipv4Addr::LOCALHOST)).to_string()
}

/// The address by which this machine would reach `place`. Connecting a UDP socket sends nothing.
fn leaving_for(place: IpAddr) -> Option<IpAddr> {
    let any = if place.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((place, 9)).ok()?;
    socket.local_addr().ok().map(|at| at.ip())
}

/// A whole fetch of the script; less than a connection may take, so that what came of it is remembered.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// How long a failure is answered without trying again.
const FAILURE_TIME: Duration = Duration::from_secs(5);
/// Most names that one evaluation may ask for.
const MAX_NAMES: usize = 64;
/// How long after a failed fetch the next one is tried.
const RETRY: Duration = Duration::from_secs(60);
/// How long a script's answer for one target is good: it may look at clock and addresses.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Most answers remembered.
const MAX_ANSWERS: usize = 256;
/// Longest head of the answer to a fetch, bytes.
const MAX_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn c3_a_machine_without_ipv4_has_an_address_too() {
        let loopback = IpAddr::from(Ipv6Addr::LOCALHOST);
        assert_eq!(leaving_for(loopback), Some(loopback));
        assert!(own_address().parse::<IpAddr>().is_ok_and(|own| !own.is_unspecified()));
    }
}
