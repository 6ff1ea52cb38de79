//! HTTP/1.1 connections: each head is read and judged here before the engine sees a byte of it.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use pingora::{
    apps::{HttpPersistentSettings, HttpServerApp},
    protocols::http::ServerSession,
    proxy::HttpProxy,
};
use sluice_gateway_access::{HeadError, HeadReader};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{Limits, connection::FrontStream, front::stopped, service::AppDoor};

const READ: usize = 4 * 1024;
/// Whoever was let in before the order to stop has so long for a first request; later ones may be asked elsewhere.
const FIRST_AFTER_STOP: Duration = Duration::from_secs(1);

/// Serves requests one after the other until the connection ends.
pub(crate) async fn serve(
    proxy: &Arc<HttpProxy<AppDoor>>,
    mut stream: Box<FrontStream>,
    shutdown: &watch::Receiver<bool>,
    limits: &Limits,
) {
    let mut kept: Option<HttpPersistentSettings> = None;
    // The first request is part of saying hello; later ones may let the connection rest.
    let (mut rest, mut after_stop) = (limits.handshake, FIRST_AFTER_STOP);
    loop {
        match read_head(&mut stream, rest, limits.handshake, (shutdown, after_stop)).await {
            Ok(Some(bytes)) => stream.unread(bytes),
            Ok(None) => return close(&mut stream).await,
            Err(refused) => return refuse(&mut stream, refused, limits.write).await,
        }
        let mut session = ServerSession::new_http1(stream);
        match kept.take() {
            Some(settings) => settings.apply_to_session(&mut session),
            None => {
                session.set_keepalive(Some(limits.idle.as_secs()));
                session.set_keepalive_reuses_remaining(Some(limits.requests_per_connection));
            }
        }
        session.set_write_timeout(Some(limits.write));
        session.set_total_drain_timeout(Some(limits.handshake));
        let Some(reused) = proxy.process_new_http(session, shutdown).await else { return };
        let (again, settings) = reused.consume();
        let Ok(again) = again.into_any().downcast::<FrontStream>() else { return };
        (stream, kept, rest, after_stop) = (again, settings, limits.idle, Duration::ZERO);
    }
}

/// One whole head with whatever came behind it; `None` when the client went away, rested too long or was too slow, or
/// began nothing within `after_stop` of the order to stop.
async fn read_head(
    stream: &mut FrontStream,
    rest: Duration,
    limit: Duration,
    (shutdown, after_stop): (&watch::Receiver<bool>, Duration),
) -> Result<Option<Bytes>, HeadError> {
    let mut shutdown = shutdown.clone();
    let mut last_call = pin!(async move {
        stopped(&mut shutdown).await;
        sleep(after_stop).await;
    });
    let (mut reader, mut buffer) = (HeadReader::default(), [0; READ]);
    let mut deadline = Instant::now() + rest;
    loop {
        let read = tokio::select! {
            read = timeout_at(deadline, stream.read(&mut buffer)) => read,
            () = &mut last_call, if reader.is_empty() => return Ok(None),
        };
        let Ok(Ok(some @ 1..)) = read else { return Ok(None) };
        if reader.is_empty() {
            deadline = Instant::now() + limit;
        }
        if reader.feed(buffer.get(..some).unwrap_or_default())?.is_some() {
            return Ok(Some(Bytes::from(reader.into_bytes())));
        }
    }
}

/// Says goodbye, so that the client can tell an end from a cut; one that does not listen is not waited for.
async fn close(stream: &mut FrontStream) {
    const GOODBYE: Duration = Duration::from_secs(1);
    if !matches!(timeout(GOODBYE, stream.shutdown()).await, Ok(Ok(()))) {
        tracing::trace!("the client was gone already");
    }
}

async fn refuse(stream: &mut FrontStream, refused: HeadError, limit: Duration) {
    tracing::debug!(error = %refused, "request refused");
    let status = match refused {
        HeadError::TooLong | HeadError::TooMany => "431 Request Header Fields Too Large",
        _ => "400 Bad Request",
    };
    let text = format!("{refused}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let write = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    let sent: Result<io::Result<()>, _> = timeout(limit, write).await;
    if !matches!(sent, Ok(Ok(()))) {
        tracing::trace!("the client did not wait for the refusal");
    }
}
