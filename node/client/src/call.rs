//! One exchange with control: HTTP/1.1 over TLS 1.3, a connection of its own, everything bounded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use serde::de::DeserializeOwned;
use sluice_node_identity::api::ErrorBody;
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::dial::{Dial, Dialled, Io};

/// Longest body either way, bytes.
pub(crate) const MAX_BODY: usize = 4 * 1024 * 1024;
/// Connecting and shaking hands.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A whole short exchange after connecting.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(10);

/// Why a call to control gave no answer to use.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer, or none that makes sense. Trying again later may help.
    #[error("control is not reachable: {0:#}")]
    Unreachable(anyhow::Error),
    /// Control said no.
    #[error("control refused ({status}, {code}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable, snake_case ([`sluice_node_identity::api::ErrorDetail::code`]); `unknown` when control gave none.
        code: String,
        /// For people.
        message: String,
        /// When to try again (`Retry-After`).
        retry_after: Option<Duration>,
    },
}

impl CallError {
    /// Whether the same call may succeed later.
    pub(crate) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
        }
    }
}

/// Where control is.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    host: String,
    port: u16,
    authority: String,
    address: Option<SocketAddr>,
    way: Arc<dyn Dial>,
}

impl Control {
    /// Reads `https://host[:port]`; `address` is dialled instead of the host when given, by `way` in any case.
    pub(crate) fn new(url: &str, address: Option<SocketAddr>, way: Arc<dyn Dial>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("control's URL {url:?} is not a URL"))?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            bail!("control's URL {url:?} must be https://host[:port]");
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), authority: authority.to_string(), address, way })
    }

    /// Sends a request and gives the answer's head, its body still to come.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] only: a refusal is an answer.
    pub(crate) async fn send(
        &self,
        tls: Arc<ClientConfig>,
        method: Method,
        path: &str,
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<Response<Incoming>, CallError> {
        let exchange = async {
            let stream = timeout(CONNECT_TIME, self.connect(tls)).await.context("connecting took too long")??;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, &self.authority)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONNECTION, "close")
                .body(Full::new(Bytes::from(body)))?;
            let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
                .max_buf_size(MAX_HEAD)
                .handshake(TokioIo::new(stream))
                .await?;
            // The connection ends with the body, or when the body is dropped.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection to control ended");
                }
            });
            timeout(wait, sender.send_request(request))
                .await
                .context("control did not answer in time")?
                .map_err(Into::into)
        };
        exchange.await.map_err(CallError::Unreachable)
    }

    async fn connect(&self, tls: Arc<ClientConfig>) -> anyhow::Result<TlsStream<Box<dyn Io>>> {
        let (host, port) =
            self.address.map_or_else(|| (self.host.clone(), self.port), |at| (at.ip().to_string(), at.port()));
        let Dialled { io, proxy } = self.way.dial(&host, port).await?;
        let name = ServerName::try_from(self.host.clone()).context("control's host is not a name")?;
        TlsConnector::from(tls).connect(name, io).await.map_err(|error| self.tls_failed(error, proxy.as_deref()))
    }

    /// Names the one who most likely answered in control's place.
    fn tls_failed(&self, error: std::io::Error, proxy: Option<&str>) -> anyhow::Error {
        match proxy {
            Some(proxy) if is_strangers(&error) => anyhow!(
                "the web proxy {proxy} breaks TLS open: it shows a certificate of its own for {host}, not one from the \
                 node root; have {host} exempted from TLS inspection",
                host = self.host
            ),
            _ => anyhow::Error::from(error).context("TLS with control failed"),
        }
    }
}

/// Whether somebody else than control answered: control speaks TLS 1.3 and shows a certificate of the node root.
fn is_strangers(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            matches!(why, CertificateError::UnknownIssuer | CertificateError::BadSignature)
        }
        Some(rustls::Error::PeerIncompatible(_)) => true,
        _ => false,
    }
}

/// Reads a short answer: its JSON, or the refusal it is. No content reads as `null`.
pub(crate) async fn answer<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, CallError> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = timeout(CALL_TIME, Limited::new(response.into_body(), MAX_BODY).collect())
        .await
        .map_err(|_| CallError::Unreachable(anyhow!("control's answer took too long")))?
        .map_err(|error| CallError::Unreachable(anyhow!("control's answer was cut: {error}")))?
        .to_bytes();
    if status.is_success() {
        let body = if status == StatusCode::NO_CONTENT || body.is_empty() { &b"null"[..] } else { &body };
        return serde_json::from_slice(body).map_err(|error| {
            CallError::Unreachable(anyhow!("control's answer is not what this release reads: {error}"))
        });
    }
    let (code, message) = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(ErrorBody { error }) => (error.code, error.message),
        Err(_) => ("unknown".to_owned(), status.to_string()),
    };
    Err(CallError::Refused { status: status.as_u16(), code, message, retry_after })
}

/// Longest head of an answer, bytes.
const MAX_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::dial::Direct;

    #[test]
    fn url_of_control_is_read() {
        let control = Control::new("https://node.sluice.test:8443", None, Arc::new(Direct)).unwrap();
        assert_eq!((control.host.as_str(), control.port), ("node.sluice.test", 8443));
        assert_eq!(Control::new("https://node.sluice.test", None, Arc::new(Direct)).unwrap().port, 443);
        assert_eq!(Control::new("https://[::1]:7", None, Arc::new(Direct)).unwrap().host, "::1");
        for bad in ["http://node.sluice.test", "node.sluice.test", "", "https://"] {
            assert!(Control::new(bad, None, Arc::new(Direct)).is_err(), "{bad}");
        }
    }
}
