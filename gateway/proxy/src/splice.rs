//! Names that are passed through unread, with a PROXY v2 header in front where the other end wants one.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::Instant,
};

const COPY_BUFFER: usize = 16 * 1024;

/// PROXY protocol v2 header for one TCP connection (proxy-protocol.txt §2.2).
pub(crate) fn proxy_v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
    const VERSION_2_PROXY: u8 = 0x21;
    const TCP_4: u8 = 0x11;
    const TCP_6: u8 = 0x21;
    let mut header = SIGNATURE.to_vec();
    header.push(VERSION_2_PROXY);
    let addresses = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.push(TCP_4);
            [source.octets(), destination.octets()].concat()
        }
        (source, destination) => {
            header.push(TCP_6);
            [mapped(source), mapped(destination)].concat()
        }
    };
    let length = u16::try_from(addresses.len().saturating_add(4)).unwrap_or_default();
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&destination.port().to_be_bytes());
    header
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Copies both ways until both ends are done, or nothing has moved for `idle`.
pub(crate) async fn copy<A, B>(a: A, b: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (start, moved) = (Instant::now(), AtomicU64::new(0));
    let (mut a_read, mut a_write) = split(a);
    let (mut b_read, mut b_write) = split(b);
    let there = one_way(&mut a_read, &mut b_write, start, &moved);
    let back = one_way(&mut b_read, &mut a_write, start, &moved);
    let both = async { tokio::try_join!(there, back).map(|_| ()) };
    let watch = async {
        loop {
            let last = start + Duration::from_millis(moved.load(Ordering::Relaxed));
            tokio::time::sleep_until(last + idle).await;
            if start + Duration::from_millis(moved.load(Ordering::Relaxed)) == last {
                return io::Error::new(io::ErrorKind::TimedOut, "nothing moved for too long");
            }
        }
    };
    tokio::select! {
        done = both => done,
        stalled = watch => Err(stalled),
    }
}

async fn one_way<R, W>(from: &mut R, to: &mut W, start: Instant, moved: &AtomicU64) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let some = from.read(&mut buffer).await?;
        if some == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..some).unwrap_or_default()).await?;
        to.flush().await?;
        let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        moved.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn header_of_ipv4_and_ipv6() {
        let v4 = proxy_v2("192.0.2.1:1000".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        assert_eq!(v4[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(v4[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 3, 232, 1, 187]);
        let v6 = proxy_v2("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        assert_eq!((v6[13], v6[14], v6[15], v6.len()), (0x21, 0, 36, 52));
        let mapped = proxy_v2("[::ffff:192.0.2.1]:1000".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        assert_eq!(mapped, v4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_splice_on_which_nothing_moves_ends() {
        let (a, _keep_a) = tokio::io::duplex(64);
        let (b, _keep_b) = tokio::io::duplex(64);
        let ended = copy(a, b, Duration::from_secs(5)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn half_close_reaches_the_other_side() {
        let (mut user, a) = tokio::io::duplex(64);
        let (b, mut server) = tokio::io::duplex(64);
        let copying = tokio::spawn(copy(a, b, Duration::from_secs(60)));
        user.write_all(b"question").await.unwrap();
        user.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = String::new();
        user.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        copying.await.unwrap().unwrap();
    }
}
