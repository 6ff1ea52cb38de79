//! The status page on loopback: `/health`, `/metrics` (Prometheus), `/streams`.
//!
//! The metrics are written by hand: every number is kept by its owner already, and the usual recorder would add a
//! registry, a second server and some twenty crates to say the same two dozen series.

mod exposition;
mod health;
mod metrics;
mod seen;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_node_identity::UnixTime;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use crate::Agent;
pub use health::{GatewayHealth, Health, LegHealth, ListHealth};

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// Time for a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Time for a whole connection; each carries one request.
const WHOLE: Duration = Duration::from_secs(10);
/// Longest head, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// After a failed accept.
const BREATH: Duration = Duration::from_millis(100);

/// How the connector stands with control.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    /// When control was last heard of; 0 when never.
    pub heard: UnixTime,
    /// Why control refuses it, in control's words.
    pub refused: Option<String>,
    /// Whether it has been silent for too long to open anything new.
    pub stale: bool,
}

/// Gives how the connector stands with control.
pub type Heard = Arc<dyn Fn() -> Contact + Send + Sync>;

/// Whom the page is about: nobody before the connector has joined.
pub type About = watch::Receiver<Option<(Agent, Heard)>>;

/// Serves the page until `shutdown`. The listener must be on loopback: nobody is asked who he is.
pub async fn serve_status(listener: TcpListener, about: About, mut shutdown: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let serving = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((tcp, _)) => {
                    let about = about.clone();
                    tokio::spawn(async move {
                        if let Err(error) = visit(tcp, about).await {
                            tracing::debug!(error = format!("{error:#}"), "a visit to the status page ended early");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the status page cannot accept");
                    sleep(BREATH).await;
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        // A sender that is gone means the same as a shutdown.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

async fn visit(tcp: TcpStream, about: About) -> anyhow::Result<()> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let about = about.borrow().clone();
        async move { Ok::<_, Infallible>(answer(&request, about.as_ref())) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(tcp), answer);
    Ok(timeout(WHOLE, served).await??)
}

fn answer<B>(request: &Request<B>, about: Option<&(Agent, Heard)>) -> Response<Full<Bytes>> {
    if !is_local(request) {
        // A page in a browser on this machine must not read us under a name that somebody made point here.
        return text(StatusCode::MISDIRECTED_REQUEST, "ask for localhost or a loopback address\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    let seen = || about.map(|(agent, heard)| seen::Seen::of(agent, heard()));
    match request.uri().path() {
        "/health" => {
            let health = Health::of(seen().as_ref());
            json(if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health)
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics::render(seen().as_ref(), &seen::Process::now()));
            let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, version);
            response
        }
        "/streams" => json(StatusCode::OK, &about.map(|(agent, _)| agent.streams()).unwrap_or_default()),
        _ => text(StatusCode::NOT_FOUND, "there are /health, /metrics and /streams\n"),
    }
}

/// Whether the request names this machine by an address of its own or `localhost`.
fn is_local<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(authority) = host.to_str().unwrap_or_default().parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    // Plain data always has a JSON form.
    let mut response = text(status, serde_json::to_vec(body).unwrap_or_default());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
