//! What tells a slow line from a dead one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod pair;

use std::time::Duration;

use pair::{BOTH, PATIENCE, pair, sockets};
use sluice_connector_mux::{Heard, Metered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("in time");
}

fn counts(heard: &Heard) -> (u64, u64) {
    (heard.received(), heard.left())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_wait_in_the_kernel_have_not_left() {
    let (near, mut far) = sockets().await;
    let (mut near, heard) = Metered::over_tcp(near);
    assert_eq!(counts(&heard), (0, 0));
    let mut written = 0;
    while let Ok(more) = timeout(Duration::from_millis(300), near.write(&[7; 65_536])).await {
        written += more.unwrap() as u64;
    }
    let stuck = heard.left();
    assert!(stuck < written, "{stuck} of {written}");
    // A line that is full and moves on shows it, although nothing is written.
    let mut taken = vec![0; usize::try_from(written).unwrap()];
    let half = taken.len() / 2;
    far.read_exact(&mut taken[..half]).await.unwrap();
    until(|| heard.left() > stuck).await;
    far.read_exact(&mut taken[half..]).await.unwrap();
    until(|| heard.left() == written).await;
    far.write_all(b"four").await.unwrap();
    near.read_exact(&mut [0; 4]).await.unwrap();
    assert_eq!(heard.received(), 4);
    // It does not keep the socket.
    drop(near);
    assert_eq!(timeout(PATIENCE, far.read(&mut [0])).await.unwrap().unwrap(), 0);
    assert_eq!(counts(&heard), (4, written));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_hear_what_passes_and_nothing_after_the_end() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let (near, far) = (gateway.heard(), agent.heard());
        let before = (counts(&near), counts(&far));
        let mut stream = gateway.opener().open().await.unwrap();
        stream.write_all(&[1; 100_000]).await.unwrap();
        let mut taken = agent.next().await.unwrap().unwrap();
        taken.read_exact(&mut vec![0; 100_000]).await.unwrap();
        assert!(far.received() >= before.1.0 + 100_000, "{transport}");
        until(|| near.left() > before.0.1).await;
        drop((agent, gateway, stream, taken));
        sleep(Duration::from_millis(50)).await;
        let last = (counts(&near), counts(&far));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(last, (counts(&near), counts(&far)), "{transport}");
    }
}
