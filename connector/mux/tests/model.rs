//! A stream is a pair of byte pipes, whatever carries it: real connections against a model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod pair;

use std::io;

use pair::{BOTH, PATIENCE, pair};
use proptest::{prelude::*, test_runner::TestRunner};
use sluice_connector_mux::{Connection, Stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Neither transport makes a writer wait for a reader that is so far behind: half a stream's first window may have been
/// read without its being opened again.
const AHEAD: usize = 128 * 1024;
const LONGEST: usize = 60_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Write {
        side: usize,
        bytes: usize,
    },
    Read {
        side: usize,
        bytes: usize,
    },
    /// A read that is given up before anything came.
    Glance {
        side: usize,
    },
    Finish {
        side: usize,
    },
    Drop {
        side: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let side = 0..2_usize;
    let size = prop_oneof![1..20_usize, 1..LONGEST];
    let step = prop_oneof![
        6 => (side.clone(), size.clone()).prop_map(|(side, bytes)| Step::Write { side, bytes }),
        6 => (side.clone(), size).prop_map(|(side, bytes)| Step::Read { side, bytes }),
        1 => side.clone().prop_map(|side| Step::Glance { side }),
        1 => side.clone().prop_map(|side| Step::Finish { side }),
        1 => side.prop_map(|side| Step::Drop { side }),
    ];
    proptest::collection::vec(step, 0..40)
}

/// One end, and what the model knows of its direction.
#[derive(Debug)]
struct End {
    stream: Option<Stream>,
    written: usize,
    read: usize,
    finished: bool,
    failed: bool,
}

struct World([End; 2]);

fn byte(side: usize, place: usize) -> u8 {
    (place.wrapping_mul(31) ^ side).to_le_bytes()[0]
}

impl World {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Write { side, bytes } => self.write(side, bytes).await,
            Step::Read { side, bytes } => self.read(side, bytes).await,
            Step::Glance { side } => {
                let behind = self.0[1 - side].written - self.0[side].read;
                if let Some(stream) = &mut self.0[side].stream
                    && behind == 0
                {
                    let glance = stream.read_u8();
                    // Polled once and given up; nothing can have come.
                    tokio::select! {
                        biased;
                        got = glance => drop(got.unwrap_err()),
                        () = std::future::ready(()) => {}
                    }
                }
            }
            Step::Finish { side } => {
                let end = &mut self.0[side];
                if let Some(stream) = &mut end.stream {
                    stream.shutdown().await.unwrap();
                    end.finished = true;
                }
            }
            Step::Drop { side } => self.0[side].stream = None,
        }
    }

    async fn write(&mut self, side: usize, bytes: usize) {
        let reader_holds = self.0[1 - side].stream.is_some();
        let taken = self.0[1 - side].read;
        let end = &mut self.0[side];
        let behind = end.written - taken;
        let Some(stream) = &mut end.stream else { return };
        if behind + bytes > AHEAD {
            return;
        }
        let sent: Vec<u8> = (end.written..end.written + bytes).map(|place| byte(side, place)).collect();
        let written = timeout(PATIENCE, stream.write_all(&sent)).await.expect("written in time");
        match written {
            Ok(()) => {
                assert!(!end.finished, "written after the end");
                end.written += bytes;
            }
            Err(error) if end.finished => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            Err(error) => {
                assert!(!reader_holds, "the reader is there: {error}");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                // Some may have been taken; nobody will ever see it.
                end.written = AHEAD + taken;
            }
        }
    }

    async fn read(&mut self, side: usize, bytes: usize) {
        let (holds, finished, written) = {
            let other = &self.0[1 - side];
            (other.stream.is_some(), other.finished, other.written)
        };
        let end = &mut self.0[side];
        let Some(stream) = &mut end.stream else { return };
        if end.failed || (holds && !finished && written == end.read) {
            return;
        }
        let mut got = vec![0; bytes];
        let read = timeout(PATIENCE, stream.read(&mut got)).await.expect("something in time");
        match read {
            Ok(0) => assert!(finished && end.read == written, "an end that is none"),
            Ok(read) => {
                assert!(
                    got[..read].iter().enumerate().all(|(n, got)| *got == byte(1 - side, end.read + n)),
                    "other bytes"
                );
                end.read += read;
                assert!(end.read <= written);
            }
            Err(error) => {
                assert!(!holds && !finished, "a reset that is none: {error}");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                end.failed = true;
            }
        }
    }

    /// Everybody reads what is left, and one who writes to nobody learns of it.
    async fn settle(&mut self) {
        for side in 0..2 {
            loop {
                let before = (self.0[side].read, self.0[side].failed);
                self.read(side, LONGEST).await;
                if before == (self.0[side].read, self.0[side].failed) {
                    break;
                }
            }
            let gone = self.0[1 - side].stream.is_none();
            let end = &mut self.0[side];
            let Some(stream) = &mut end.stream else { continue };
            if gone && !end.finished {
                let told = async { while stream.write_all(&[0; 10_000]).await.is_ok() {} };
                timeout(PATIENCE, told).await.expect("told in time");
            }
        }
    }
}

/// A stream that the gateway opened, both ends.
async fn stream(agent: &mut Connection, gateway: &Connection) -> [End; 2] {
    let mut near = gateway.opener().open().await.unwrap();
    near.write_all(b"!").await.unwrap();
    let mut far = timeout(PATIENCE, agent.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'!');
    [near, far].map(|stream| End { stream: Some(stream), written: 0, read: 0, finished: false, failed: false })
}

#[test]
fn streams_are_pairs_of_byte_pipes_on_both_transports() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for transport in BOTH {
        let (agent, gateway) = runtime.block_on(pair(transport));
        let agent = tokio::sync::Mutex::new(agent);
        let mut runner =
            TestRunner::new(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() });
        runner
            .run(&steps(), |steps| {
                runtime.block_on(async {
                    let mut world = World(stream(&mut *agent.lock().await, &gateway).await);
                    for step in steps {
                        world.step(step).await;
                    }
                    world.settle().await;
                });
                Ok(())
            })
            .unwrap_or_else(|failed| panic!("{transport}: {failed}"));
    }
}
