//! PROXY protocol, version 2 (haproxy's proxy-protocol.txt §2.2): who is behind a gateway's splice.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and additions after the fixed part; more is refused.
const MAX_REST: usize = 512;

/// Reads the header from the front of `stream`. `None`: the peer speaks for itself (`LOCAL`, or no address given).
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let rest = rest_length(&fixed).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; rest];
    stream.read_exact(&mut body).await?;
    source(&fixed, &body).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn rest_length(fixed: &[u8; 16]) -> Option<usize> {
    let [front @ .., version, _family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (front == SIGNATURE && version >> 4 == 2 && length <= MAX_REST).then_some(length)
}

/// Outer `None`: malformed.
fn source(fixed: &[u8; 16], body: &[u8]) -> Option<Option<SocketAddr>> {
    let [.., version, family, _, _] = fixed;
    match (version & 0xf, family) {
        (0, _) | (1, 0x00) => Some(None),
        (1, 0x11) => {
            let address: [u8; 4] = body.get(..4)?.try_into().ok()?;
            let port: [u8; 2] = body.get(8..10)?.try_into().ok()?;
            body.get(..12)?;
            Some(Some((Ipv4Addr::from(address), u16::from_be_bytes(port)).into()))
        }
        (1, 0x21) => {
            let address: [u8; 16] = body.get(..16)?.try_into().ok()?;
            let port: [u8; 2] = body.get(32..34)?.try_into().ok()?;
            body.get(..36)?;
            Some(Some((Ipv6Addr::from(address).to_canonical(), u16::from_be_bytes(port)).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn header(from: SocketAddr) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        let addresses: Vec<u8> = match from {
            SocketAddr::V4(from) => {
                bytes.extend([0x21, 0x11, 0, 12]);
                [&from.ip().octets()[..], &[10, 0, 0, 1]].concat()
            }
            SocketAddr::V6(from) => {
                bytes.extend([0x21, 0x21, 0, 36]);
                [&from.ip().octets()[..], &[0; 16]].concat()
            }
        };
        bytes.extend(addresses);
        bytes.extend(from.port().to_be_bytes());
        bytes.extend([1, 187]);
        bytes
    }

    async fn parse(bytes: &[u8]) -> io::Result<(Option<SocketAddr>, usize)> {
        let mut rest = bytes;
        let found = read(&mut rest).await?;
        Ok((found, rest.len()))
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_read_and_nothing_more() {
        for from in ["192.0.2.7:4711", "[2001:db8::7]:4711"] {
            let from: SocketAddr = from.parse().unwrap();
            let mut bytes = header(from);
            bytes.extend(b"TLS");
            assert_eq!(parse(&bytes).await.unwrap(), (Some(from), 3));
        }
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(parse(&local).await.unwrap(), (None, 0));
    }

    #[tokio::test]
    async fn other_versions_transports_and_lengths_are_refused() {
        let good = header("192.0.2.7:4711".parse().unwrap());
        for (at, value) in [(0, 0x16), (12, 0x11), (12, 0x22), (13, 0x12), (13, 0x31), (14, 0xff), (15, 11)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(parse(&bad).await.is_err(), "byte {at} = {value:#x}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_or_overread(tail in prop::collection::vec(any::<u8>(), 0..600), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &tail].concat() } else { tail };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            if let Ok((_, left)) = runtime.block_on(parse(&bytes)) {
                prop_assert!(left <= bytes.len() - 16);
            }
        }
    }
}
