//! Frames of `sluice-connector-wire` on asynchronous streams, within a time.

use std::{io, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use sluice_connector_wire::{decode_frame, encode_frame, frame_length};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Reads one frame and not a byte more.
///
/// # Errors
/// `InvalidData` when it is not the expected frame, `TimedOut` when it has not come whole within `limit`, and the
/// stream's own errors.
pub async fn read_frame<T: DeserializeOwned>(io: &mut (impl AsyncRead + Unpin), limit: Duration) -> io::Result<T> {
    let read = async {
        let mut header = [0; 2];
        io.read_exact(&mut header).await?;
        let mut body = vec![0; frame_length(header).map_err(invalid)?];
        io.read_exact(&mut body).await?;
        decode_frame(&body).map_err(invalid)
    };
    timeout(limit, read).await?
}

/// Writes one frame in a single write and flushes it.
///
/// # Errors
/// `InvalidData` when it would be too long, `TimedOut` after `limit`, and the stream's own errors.
pub async fn write_frame(
    io: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
    limit: Duration,
) -> io::Result<()> {
    let bytes = encode_frame(message).map_err(invalid)?;
    let write = async {
        io.write_all(&bytes).await?;
        io.flush().await
    };
    timeout(limit, write).await?
}

fn invalid(error: sluice_connector_wire::FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
