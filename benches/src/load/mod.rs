//! The load maker and the server it talks to; both run in namespaces of their own, as `bench-load`.

pub mod echo;
pub mod idle;
pub mod opens;
pub mod requests;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Far longer than any answer takes that still counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which one byte has come back: the far end is really there.
fn proved(to: SocketAddr) -> io::Result<TcpStream> {
    let mut tcp = TcpStream::connect_timeout(&to, PATIENCE)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.write_all(&[1])?;
    tcp.read_exact(&mut [0])?;
    Ok(tcp)
}
