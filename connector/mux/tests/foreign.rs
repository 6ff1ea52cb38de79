//! Our yamux against one that nobody here wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod pair;

use std::future::poll_fn;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use pair::PATIENCE;
use sluice_connector_mux::{Connection, End};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

/// Moves a foreign connection: opens `open` streams, hands out all there are.
fn foreign(io: TcpStream, mode: yamux::Mode, open: usize) -> mpsc::Receiver<yamux::Stream> {
    let mut config = yamux::Config::default();
    config.set_split_send_size(100_000);
    let mut connection = yamux::Connection::new(io.compat(), config, mode);
    let (found, streams) = mpsc::channel(64);
    tokio::spawn(async move {
        for _ in 0..open {
            found.send(poll_fn(|cx| connection.poll_new_outbound(cx)).await.unwrap()).await.unwrap();
        }
        while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            found.send(stream).await.unwrap();
        }
    });
    streams
}

fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(7) + seed).to_le_bytes()[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_ours_are_understood() {
    let (near, far) = pair::sockets().await;
    let ours = Connection::over_tcp(near, End::Gateway);
    let mut theirs = foreign(far, yamux::Mode::Client, 0);
    tokio::spawn(async move {
        while let Some(stream) = theirs.recv().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                futures::io::copy(&mut read, &mut write).await.unwrap();
                write.close().await.unwrap();
            });
        }
    });
    let mut running = Vec::new();
    for n in 0..8 {
        let stream = ours.opener().open().await.unwrap();
        running.push(tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let sent = bytes(n, 1_500_000);
            let mut got = Vec::new();
            let sending = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let (read, ()) = tokio::join!(read.read_to_end(&mut got), sending);
            read.unwrap();
            assert!(got == sent);
        }));
    }
    for one in running {
        timeout(PATIENCE, one).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_theirs_are_understood() {
    let (near, far) = pair::sockets().await;
    let mut ours = Connection::over_tcp(near, End::Agent);
    let mut theirs = foreign(far, yamux::Mode::Server, 8);
    tokio::spawn(async move {
        while let Some(Ok(stream)) = ours.next().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
    // Numbers must arrive in order, so each says a word before the next does.
    let mut streams = Vec::new();
    for n in 0..8 {
        let mut stream = timeout(PATIENCE, theirs.recv()).await.unwrap().unwrap();
        stream.write_all(&[n]).await.unwrap();
        let mut back = [0];
        timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, [n]);
        streams.push(stream);
    }
    let mut running = Vec::new();
    for (n, stream) in streams.into_iter().enumerate() {
        running.push(tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            let sent = bytes(n, 1_500_000);
            let mut got = Vec::new();
            let sending = async {
                write.write_all(&sent).await.unwrap();
                write.close().await.unwrap();
            };
            let (read, ()) = futures::join!(read.read_to_end(&mut got), sending);
            read.unwrap();
            assert!(got == sent);
        }));
    }
    for one in running {
        timeout(PATIENCE, one).await.unwrap().unwrap();
    }
}
