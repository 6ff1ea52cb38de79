//! The few HTTP answers of the edge: discovery for everybody, check-in for hubs with a certificate.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use sluice_discovery_rules::{CHECK_IN_PATH, DISCOVERY_PATH, staging};
use sluice_node_identity::{
    Fingerprint, HubId,
    api::{CheckIn, ErrorBody, ErrorDetail},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::{
    lan::{Desk, now},
    report::Reports,
};

/// How long a client may take for its header.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a connection may last in all.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Longest header and longest body, bytes.
const MAX_HEADER: usize = 8 * 1024;
const MAX_BODY: usize = 4 * 1024;

/// A client that proved to be a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) hub: HubId,
    pub(crate) key: Fingerprint,
}

/// What one connection is.
pub(crate) struct Visit {
    pub(crate) desk: Arc<Desk>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) from: IpAddr,
    /// Only a TLS connection can have one.
    pub(crate) caller: Option<Caller>,
    pub(crate) is_tls: bool,
}

/// One connection, at most [`CONNECTION_TIME`].
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, visit: Visit) {
    let visit = Arc::new(visit);
    let service = service_fn(move |request| {
        let visit = visit.clone();
        async move { Ok::<_, std::convert::Infallible>(visit.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection"),
        Err(_) => tracing::debug!("HTTP connection took too long"),
    }
}

impl Visit {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        if Limited::new(body, MAX_BODY).collect().await.is_err() {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a check-in needs no body");
        }
        match (parts.uri.path(), &parts.method) {
            (DISCOVERY_PATH, &Method::GET | &Method::HEAD) => match self.desk.hint() {
                Some(hint) => json_answer(StatusCode::OK, hint),
                None => refuse(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "the edge has no configuration yet"),
            },
            (CHECK_IN_PATH, &Method::POST) if self.is_tls => match &self.caller {
                Some(caller) => self.check_in(caller).await,
                None => refuse(StatusCode::UNAUTHORIZED, "certificate_required", "check in with your hub certificate"),
            },
            (DISCOVERY_PATH, _) => refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "use GET"),
            (CHECK_IN_PATH, _) if self.is_tls => refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "use POST"),
            _ => refuse(StatusCode::NOT_FOUND, "not_found", "nothing is here"),
        }
    }

    async fn check_in(&self, caller: &Caller) -> Response<Full<Bytes>> {
        let verdict = match self.desk.check_in(&caller.hub, caller.key.clone(), self.from) {
            Ok(verdict) => verdict,
            Err(error) => return broken(&error),
        };
        if let Ok(mac) = verdict {
            // Before anything is waited for: a hub that hangs up now is admitted all the same.
            let seen = CheckIn { hub: caller.hub.clone(), mac: mac.to_string(), address: self.from, at: now() };
            self.reports.add(seen);
        }
        // Told only when it is true: the kernel lets the hub pass before the hub hears so.
        if let Err(error) = self.desk.settled().await {
            return broken(&error);
        }
        match verdict {
            Ok(_) => {
                let body = json!({ "admitted": true, "next_seconds": staging::CHECK_IN_SECONDS });
                json_answer(StatusCode::OK, body.to_string())
            }
            Err(reason) => {
                let (status, code) = match reason {
                    staging::Refused::NotEnrolled => (StatusCode::FORBIDDEN, "not_enrolled"),
                    staging::Refused::UnknownDevice => (StatusCode::CONFLICT, "unknown_device"),
                    staging::Refused::Conflict => (StatusCode::CONFLICT, "conflict"),
                    staging::Refused::Full => (StatusCode::SERVICE_UNAVAILABLE, "full"),
                    staging::Refused::Stale => (StatusCode::SERVICE_UNAVAILABLE, "stale"),
                };
                refuse(status, code, &reason.to_string())
            }
        }
    }
}

fn broken(error: &anyhow::Error) -> Response<Full<Bytes>> {
    tracing::error!("check-in: {error:#}");
    refuse(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the edge cannot admit anybody now")
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = ErrorBody { error: ErrorDetail { code: code.to_owned(), message: message.to_owned() } };
    json_answer(status, serde_json::to_string(&body).unwrap_or_default())
}

fn json_answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
