//! Asking the connector that runs on this machine, by its status page.

use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};

use crate::config::status::StatusListen;

/// A whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Status and content of `path`.
///
/// # Errors
/// The page is off, nobody answers, or what answers is no connector.
pub(super) async fn ask<T: DeserializeOwned>(listen: StatusListen, path: &str) -> anyhow::Result<(StatusCode, T)> {
    let StatusListen::At(address) = listen else {
        bail!("the status page is off (status.listen in the configuration)");
    };
    let exchange = async {
        let tcp = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::get(path).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        driver.abort();
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        Ok::<_, anyhow::Error>((status, serde_json::from_slice(&body).context("the answer is not a connector's")?))
    };
    timeout(PATIENCE, exchange)
        .await
        .context("no answer in time")
        .and_then(|answer| answer)
        .with_context(|| format!("no connector answers at {address}; does it run, with this configuration?"))
}
