//! The way out to control: directly, or however the role says.

use std::{fmt::Debug, net::SocketAddr};

use anyhow::Context;
use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};

/// A connection, whatever it is made of.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection and how it came about.
pub struct Dialled {
    /// Carries bytes to the host that was asked for.
    pub io: Box<dyn Io>,
    /// The web proxy it leads through, as it may be logged.
    pub proxy: Option<String>,
}

/// Makes connections to control for joining, renewing and watching.
#[async_trait]
pub trait Dial: Debug + Send + Sync {
    /// Connects to `host` (a name or an address, without brackets). The caller bounds the time.
    ///
    /// # Errors
    /// Whatever is in the way, in words.
    async fn dial(&self, host: &str, port: u16) -> anyhow::Result<Dialled>;
}

/// Resolves the name and connects to the first address that answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

#[async_trait]
impl Dial for Direct {
    async fn dial(&self, host: &str, port: u16) -> anyhow::Result<Dialled> {
        let found = lookup_host((host, port)).await.with_context(|| format!("cannot resolve {host}"))?;
        let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
        let tcp = TcpStream::connect(addresses.as_slice())
            .await
            .with_context(|| format!("cannot connect to {host}:{port} ({addresses:?})"))?;
        tcp.set_nodelay(true)?;
        Ok(Dialled { io: Box::new(tcp), proxy: None })
    }
}

/// Most addresses of control that are tried.
const MAX_ADDRESSES: usize = 8;
