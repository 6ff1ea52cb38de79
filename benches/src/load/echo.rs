//! A server that sends back what it gets.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Connections that may wait to be taken; more than any case opens at once.
const BACKLOG: u32 = 4096;
/// Bytes sent back at a time.
const BUFFER: usize = 16 * 1024;

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(listen: SocketAddr) -> Result<()> {
    let listener = listener(listen).with_context(|| format!("cannot listen on {listen}"))?;
    loop {
        let (tcp, _) = listener.accept().await.context("accepting")?;
        tokio::spawn(async move {
            // A broken connection is its other end's to notice.
            let _ended = send_back(tcp).await;
        });
    }
}

fn listener(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

async fn send_back(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    // Idle connections hold no buffer, so that a thousand of them stay small.
    loop {
        tcp.readable().await?;
        let mut buffer = [0; BUFFER];
        let read = match tcp.try_read(&mut buffer) {
            Ok(0) => return tcp.shutdown().await,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        tcp.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
}
