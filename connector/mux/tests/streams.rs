//! What streams promise, on both transports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod pair;

use pair::{BOTH, PATIENCE, pair};
use sluice_connector_mux::{Connection, Stream, carry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// A stream that the gateway opened, both ends.
async fn stream(agent: &mut Connection, gateway: &Connection) -> (Stream, Stream) {
    let mut opened = gateway.opener().open().await.unwrap();
    opened.write_all(b"!").await.unwrap();
    opened.flush().await.unwrap();
    let mut taken = timeout(PATIENCE, agent.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(taken.read_u8().await.unwrap(), b'!');
    (opened, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_and_each_direction_ends_by_itself() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        assert_eq!(agent.transport(), transport);
        let (mut near, mut far) = stream(&mut agent, &gateway).await;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sending = async {
            near.write_all(&bytes).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (read, ()) = timeout(PATIENCE, async { tokio::join!(far.read_to_end(&mut got), sending) }).await.unwrap();
        assert_eq!(read.unwrap(), bytes.len());
        assert!(got == bytes, "{transport}");
        // Our end has come; the other's has not.
        far.write_all(b"still here").await.unwrap();
        far.shutdown().await.unwrap();
        let mut back = String::new();
        timeout(PATIENCE, near.read_to_string(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, "still here", "{transport}");
        assert!(gateway.heard().received() > 0 && agent.heard().received() > 3_000_000, "{transport}");
        assert!(gateway.heard().left() > 0, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_dropped_unfinished_is_a_reset_and_no_end() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let (mut near, mut far) = stream(&mut agent, &gateway).await;
        near.write_all(b"half of it").await.unwrap();
        drop(near);
        let mut got = Vec::new();
        let ended = timeout(PATIENCE, far.read_to_end(&mut got)).await.unwrap();
        assert!(ended.is_err(), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_sends_what_streams_were_given_and_ends_for_the_other_too() {
    for transport in BOTH {
        let (mut agent, mut gateway) = pair(transport).await;
        let (mut near, mut far) = stream(&mut agent, &gateway).await;
        near.write_all(&[7; 100_000]).await.unwrap();
        near.shutdown().await.unwrap();
        let closing = tokio::spawn(async move { (gateway.close().await, gateway) });
        let mut got = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut got)).await.unwrap().unwrap();
        assert_eq!(got.len(), 100_000, "{transport}");
        let (closed, _gateway) = timeout(PATIENCE, closing).await.unwrap().unwrap();
        closed.unwrap();
        assert!(timeout(PATIENCE, agent.next()).await.unwrap().is_none(), "{transport}");
        assert!(agent.opener().open().await.is_err(), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_pass_whole_at_every_size() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let (near, far) = stream(&mut agent, &gateway).await;
        let (near, far) = (near.into_datagrams(), far.into_datagrams());
        for size in [0, 1, 100, 1100, 1200, 1500, 9000, sluice_connector_mux::MAX_DATAGRAM] {
            let sent: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0]).collect();
            near.send(&sent).unwrap();
            let got = timeout(PATIENCE, far.recv()).await.unwrap().unwrap().unwrap();
            assert!(got[..] == sent[..], "{transport} {size}");
            far.send(&got).unwrap();
            let back = timeout(PATIENCE, near.recv()).await.unwrap().unwrap().unwrap();
            assert!(back[..] == sent[..], "{transport} {size}");
        }
        assert!(near.send(&vec![0; sluice_connector_mux::MAX_DATAGRAM + 1]).is_err());
        drop(near);
        assert!(timeout(PATIENCE, far.recv()).await.unwrap().unwrap().is_none(), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_reset_is_seen_behind_bytes_that_nobody_takes() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let mut near = gateway.opener().open().await.unwrap();
        near.write_all(b"x").await.unwrap();
        let mut far = agent.next().await.unwrap().unwrap();
        let (mut target, _stuck) = tokio::io::duplex(1024);
        let copying = tokio::spawn(async move { carry(&mut far, &mut target).await });
        // More than the target takes and the copy keeps.
        near.write_all(&vec![7; 128 * 1024]).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(!copying.is_finished());
        drop(near);
        let ended = timeout(PATIENCE, copying).await.expect("the reset is seen").unwrap();
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{transport}");
    }
}
