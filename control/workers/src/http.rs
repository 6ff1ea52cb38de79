//! HTTP/1.1 over a stream to one resource, as one account.

use std::{pin::pin, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{client::conn::http1, header::HeaderValue};
use hyper_util::rt::TokioIo;
use sluice_control_sync::{Method, Request, Response};
use sluice_control_wallet::Credential;
use sluice_node_identity::{ResourceId, TenantId};
use thiserror::Error;
use tokio::{task::JoinHandle, time::timeout};
use zeroize::Zeroizing;

use crate::{Reach, ReachError};

/// Time for reaching the resource.
const REACH: Duration = Duration::from_secs(15);
/// Time for one request and its whole response.
const EXCHANGE: Duration = Duration::from_secs(45);
/// Longest response body.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// Longest response header.
const MAX_HEADER: usize = 64 * 1024;
/// Most response header fields.
const MAX_FIELDS: usize = 100;

/// No response came.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// Not reached; nothing was sent.
    #[error("the application cannot be reached: {0}")]
    Reach(#[from] ReachError),
    /// The exchange broke off; whether the request arrived is not known.
    #[error("the application did not answer properly: {0}")]
    Broken(String),
}

/// Connections to one resource, one after the other.
pub(crate) struct Session<'s> {
    reach: &'s dyn Reach,
    tenant: &'s TenantId,
    resource: &'s ResourceId,
    sub: String,
    authorization: HeaderValue,
    open: Option<Open>,
}

/// A connection; its task ends with it.
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'s> Session<'s> {
    /// As the account of `credential`, on behalf of `sub`.
    pub(crate) fn new(
        reach: &'s dyn Reach,
        tenant: &'s TenantId,
        resource: &'s ResourceId,
        sub: String,
        credential: &Credential,
    ) -> Result<Self, HttpError> {
        let pair = Zeroizing::new(format!("{}:{}", credential.login(), credential.expose_password()));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut authorization =
            HeaderValue::from_str(&text).map_err(|_| HttpError::Broken("the stored login cannot be sent".into()))?;
        authorization.set_sensitive(true);
        Ok(Self { reach, tenant, resource, sub, authorization, open: None })
    }

    /// Sends a request and reads the whole response. A GET over a kept connection that broke is sent once more.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Response, HttpError> {
        let kept = self.open.is_some();
        match self.exchange(request).await {
            Err(HttpError::Broken(_)) if kept && request.method == Method::Get => self.exchange(request).await,
            other => other,
        }
    }

    async fn exchange(&mut self, request: &Request) -> Result<Response, HttpError> {
        // A write goes over a fresh connection: a kept one may have died unnoticed, and then nobody could tell
        // whether the write arrived.
        let open = match self.open.take() {
            Some(open) if open.sender.is_ready() && request.method == Method::Get => open,
            _ => self.connect().await?,
        };
        let sent = timeout(EXCHANGE, run(open, self.build(request)?)).await;
        let (open, response) = sent.map_err(|_| HttpError::Broken("time is up".into()))??;
        self.open = Some(open);
        Ok(response)
    }

    fn build(&self, request: &Request) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
        let body = request.body.clone().unwrap_or_default();
        let mut built = hyper::Request::builder().method(request.method.as_str()).uri(&request.target);
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        built
            .header(hyper::header::AUTHORIZATION, self.authorization.clone())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| HttpError::Broken(error.to_string()))
    }

    async fn connect(&self) -> Result<Open, HttpError> {
        let reached = timeout(REACH, self.reach.open(self.tenant, self.resource, &self.sub)).await;
        let stream = reached.map_err(|_| ReachError("time is up".to_owned()))??;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEADER)
            .max_headers(MAX_FIELDS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| HttpError::Broken(error.to_string()))?;
        let task = tokio::spawn(async move {
            if let Err(error) = pin!(connection).await {
                tracing::debug!("a connection to an application ended: {error}");
            }
        });
        Ok(Open { sender, task })
    }
}

async fn run(mut open: Open, request: hyper::Request<Full<Bytes>>) -> Result<(Open, Response), HttpError> {
    let broken = |error: hyper::Error| HttpError::Broken(error.to_string());
    open.sender.ready().await.map_err(broken)?;
    let response = open.sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| HttpError::Broken(error.to_string()))?;
    let headers = head.headers.iter();
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let response =
        Response { status: head.status.as_u16(), headers: headers.collect(), body: body.to_bytes().to_vec() };
    Ok((open, response))
}
