//! The PAC script: where it lies, when it is fetched again, what it said lately.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
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
    worker::{Answer, Ask, Done, Help, Job, Kind, MAX_SCRIPT, Workers},
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
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) resolver: Resolver,
    pub(crate) tls: Arc<ClientConfig>,
    /// The fetched text and when to fetch it again. Held while fetching, so that one fetch serves all who wait.
    fetched: tokio::sync::Mutex<Option<(String, Instant)>>,
    answers: Mutex<BTreeMap<Target, (String, Instant)>>,
}

impl Script {
    pub(crate) fn new(
        source: PacSource,
        workers: Arc<dyn Workers>,
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
    pub(crate) async fn ways(&self, target: &Target) -> Result<(Vec<Way>, String), String> {
        let text = match self.remembered(target) {
            Some(text) => text,
            None => {
                let text = self.evaluate(target).await?;
                self.remember(target, &text);
                text
            }
        };
        let ways = pac_result(&text).map_err(|error| error.to_string())?;
        Ok((ways, text.chars().filter(|c| !c.is_control()).take(200).collect()))
    }

    async fn evaluate(&self, target: &Target) -> Result<String, String> {
        let script = self.text().await.map_err(|error| format!("{error:#}"))?;
        let host = target.host().to_owned();
        let url = format!("https://{target}/").replace(":443/", "/");
        let mut job = Job::start(self.workers.as_ref(), Kind::Pac)
            .map_err(|error| format!("no worker process for the PAC script: {error}"))?;
        match job.ask(&Ask::Pac { script, url, host, mine: own_address() }, self).await {
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

    async fn text(&self) -> anyhow::Result<String> {
        let PacSource::Url { url, refresh } = &self.source else {
            let PacSource::Text(text) = &self.source else { bail!("no script") };
            return Ok(text.clone());
        };
        let mut fetched = self.fetched.lock().await;
        if let Some((text, until)) = fetched.as_ref()
            && Instant::now() < *until
        {
            return Ok(text.clone());
        }
        let found = timeout(FETCH_TIME, self.fetch(url)).await.context("it takes too long").and_then(|found| found);
        match (found, fetched.as_mut()) {
            (Ok(text), _) => {
                *fetched = Some((text.clone(), Instant::now() + *refresh));
                Ok(text)
            }
            (Err(error), Some((text, until))) => {
                tracing::warn!(%url, "the PAC script cannot be fetched again: {error:#}; the last one stays in use");
                *until = Instant::now() + RETRY;
                Ok(text.clone())
            }
            (Err(error), None) => Err(error.context(format!("the PAC script at {url} cannot be fetched"))),
        }
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

    fn remembered(&self, target: &Target) -> Option<String> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(target).filter(|(_, until)| Instant::now() < *until).map(|(text, _)| text.clone())
    }

    fn remember(&self, target: &Target, text: &str) {
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (_, until)| now < *until);
        if answers.len() < MAX_ANSWERS {
            answers.insert(target.clone(), (text.to_owned(), now + ANSWER_TIME));
        }
    }
}

impl Help for Script {
    async fn help(&self, asked: &Answer) -> Option<Ask> {
        match asked {
            Answer::Resolve(name) => Some(Ask::Address(self.address(name).await)),
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

/// The address by which this machine goes out. Connecting a UDP socket sends nothing.
fn own_address() -> String {
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    found.map_or_else(|_| Ipv4Addr::LOCALHOST.to_string(), |at| at.ip().to_string())
}

/// A whole fetch of the script.
const FETCH_TIME: Duration = Duration::from_secs(10);
/// How long after a failed fetch the next one is tried.
const RETRY: Duration = Duration::from_secs(60);
/// How long a script's answer for one target is good: it may look at clock and addresses.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Most answers remembered.
const MAX_ANSWERS: usize = 256;
/// Longest head of the answer to a fetch, bytes.
const MAX_HEAD: usize = 16 * 1024;
