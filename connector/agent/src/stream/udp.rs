//! Datagrams between a stream and a UDP socket.

use std::{io, time::Duration};

use rustix::io::Errno;
use sluice_connector_mux::{Datagrams, MAX_DATAGRAM};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

use crate::ledger::{CLOSED, Row};

/// How a flow ends on which nothing has moved.
const IDLE: &str = "no datagram for too long";

/// Carries datagrams both ways until the caller ends the flow, nothing moves for `idle`, or the network says (by ICMP)
/// that the target cannot be reached.
///
/// What waits is bounded by the socket's buffer on one side and by [`Datagrams`] on the other: under a flood datagrams
/// are lost, as UDP's are.
pub(super) async fn copy(flow: &Datagrams, udp: &UdpSocket, row: &Row, idle: Duration) -> io::Result<&'static str> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let end = sleep_until(Instant::now() + idle);
    tokio::pin!(end);
    loop {
        tokio::select! {
            from_caller = flow.recv() => match from_caller? {
                None => return Ok(CLOSED),
                Some(datagram) => {
                    send(udp, &datagram).await?;
                    row.datagram_up(datagram.len());
                }
            },
            from_target = udp.recv(&mut buffer) => {
                let datagram = buffer.get(..from_target.map_err(in_words)?).unwrap_or_default();
                row.datagram_down(datagram.len());
                flow.send(datagram)?;
            }
            () = &mut end => return Ok(IDLE),
        }
        end.as_mut().reset(Instant::now() + idle);
    }
}

async fn send(udp: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    match udp.send(datagram).await {
        Ok(_) => Ok(()),
        // Full somewhere below, or too long for a link that must not split it: lost, as datagrams are.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOBUFS | Errno::MSGSIZE)) => {
            tracing::debug!(%error, "a datagram was lost at once");
            Ok(())
        }
        Err(error) => Err(in_words(error)),
    }
}

/// A connected socket hears of ICMP errors as those of its own calls.
fn in_words(error: io::Error) -> io::Error {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "the target's machine says that nothing listens on this UDP port",
        io::ErrorKind::HostUnreachable => "the network says that the target's machine cannot be reached",
        io::ErrorKind::NetworkUnreachable => "the network says that there is no way to the target's network",
        _ => return error,
    };
    io::Error::new(error.kind(), words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn c5_a_closed_port_is_told_in_words() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(closed).await.unwrap();
        send(&udp, b"anybody?").await.unwrap();
        let heard = in_words(udp.recv(&mut [0; 16]).await.unwrap_err());
        assert!(heard.to_string().contains("nothing listens on this UDP port"), "{heard}");
    }

    #[tokio::test]
    async fn c5_a_datagram_that_no_link_takes_is_lost_and_the_flow_lives() {
        let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(target.local_addr().unwrap()).await.unwrap();
        send(&udp, &vec![0; MAX_DATAGRAM + 1]).await.unwrap();
        send(&udp, b"next").await.unwrap();
        let mut got = [0; 16];
        assert_eq!(target.recv(&mut got).await.unwrap(), 4);
    }
}
