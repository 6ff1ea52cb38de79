//! What a peer that has proved itself may send over TCP: frames of many streams, and datagrams in one.

use std::{collections::BTreeSet, task::Waker};

use sluice_connector_mux::{Datagrams, End, MAX_STREAMS, OUT_LIMIT};
use tokio::io::AsyncWriteExt;

use crate::{
    codec::{accepted, run},
    yamux::{HEADER, Input, Read, Session, Write},
};

/// Longest body that one step of a script sends.
const LONGEST: usize = 70_000;
/// Datagrams that wait for their reader; beyond it the oldest go.
const WAITING: usize = 256;

/// A connection, and what its user holds.
struct World {
    session: Session,
    input: Input,
    /// Streams that are held.
    held: BTreeSet<u32>,
    /// Bytes that came, and those that streams gave.
    came: usize,
    given: usize,
}

/// A script of frames, pieces of frames, and what their reader does meanwhile. After each step the session's accounts
/// agree (it asserts that itself when its output is taken), no stream gives more than came, and what is said to the
/// peer is whole frames, bounded.
pub fn mux(script: &[u8]) {
    let Some((first, script)) = script.split_first() else { return };
    let end = if first % 2 == 0 { End::Agent } else { End::Gateway };
    let (session, input) = (Session::new(end), Input::default());
    let mut world = World { session, input, held: BTreeSet::new(), came: 0, given: 0 };
    let mut rest = script;
    while let Some((step, after)) = rest.split_first() {
        let Some(after) = world.step(*step, after) else { return };
        rest = after;
        world.spoken();
    }
    if world.input.is_whole() {
        accepted();
    }
    for id in std::mem::take(&mut world.held) {
        world.session.forget(id);
        world.spoken();
    }
}

impl World {
    /// Takes one step; gives what is left of the script, or nothing when the peer went too far.
    fn step<'a>(&mut self, step: u8, script: &'a [u8]) -> Option<&'a [u8]> {
        let (&[which, high, low], rest) = script.split_first_chunk::<3>()?;
        let size = usize::from(u16::from_be_bytes([high, low]));
        let id = self.held.iter().nth(usize::from(which) % self.held.len().max(1)).copied().unwrap_or(0);
        match step % 8 {
            // Any bytes.
            0 => {
                let (now, rest) = rest.split_at(size.min(rest.len()));
                self.arrive(now)?;
                return Some(rest);
            }
            // A frame that could be one, with its body.
            1..=3 => {
                let (kind, flags) = (step >> 3 & 3, step >> 5 | (which >> 7) << 3);
                let stream = u32::from(which & 0x7f);
                let length = if kind == 0 { size.min(LONGEST) } else { size };
                self.arrive(
                    &[&[0, kind, 0, flags][..], &stream.to_be_bytes(), &u32::try_from(length).unwrap().to_be_bytes()]
                        .concat(),
                )?;
                if kind == 0 {
                    self.arrive(&vec![7; length])?;
                }
            }
            4 => self.held.extend(self.session.open()),
            5 => match self.session.write(id, &vec![8; size], Waker::noop()) {
                Write::Bytes(written) => assert!(written > 0 && written <= size),
                Write::Wait | Write::Finished | Write::Reset | Write::Gone => {}
            },
            6 => {
                let mut got = 0;
                let read = self.session.read(id, size, Waker::noop(), |bytes| got += bytes.len());
                assert!(read == Read::Bytes(got) || got == 0, "{read:?}, and {got} bytes");
                self.given += got;
                assert!(self.given <= self.came, "{} bytes given of {} that came", self.given, self.came);
            }
            _ if size % 2 == 0 => drop(self.session.finish(id)),
            _ => {
                self.held.remove(&id);
                self.session.forget(id);
            }
        }
        Some(rest)
    }

    fn arrive(&mut self, bytes: &[u8]) -> Option<()> {
        self.came += bytes.len();
        self.input.bytes.extend_from_slice(bytes);
        let mut opened = Vec::new();
        let went_on = self.input.hand_over(&mut self.session, &mut opened);
        for id in opened {
            assert!(self.held.insert(id), "a stream was opened twice");
        }
        assert!(self.held.len() <= 2 * MAX_STREAMS);
        // A goodbye, or what ends the connection.
        matches!(went_on, Ok(false)).then_some(())
    }

    /// Takes what is said to the peer.
    fn spoken(&mut self) {
        let mut out = Vec::new();
        self.session.take_output(&mut out, Waker::noop());
        assert!(out.len() <= 2 * OUT_LIMIT + MAX_STREAMS * 8 * 1024, "{} bytes wait for the peer", out.len());
        let mut rest = out.as_slice();
        while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
            let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
            assert!(header[0] == 0 && header[1] <= 3 && header[2] == 0 && header[3] < 16, "{header:?}");
            rest = if header[1] == 0 { after.get(length..).expect("a whole body") } else { after };
        }
        assert!(rest.is_empty(), "half a header");
    }
}

/// Datagrams in a stream, each behind its length: those that are whole come out whole and in order, a piece at the end
/// is none.
pub fn datagrams(data: &[u8]) {
    let (mut whole, mut rest) = (Vec::new(), data);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((datagram, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
        whole.push(datagram);
        rest = after;
    }
    if rest.is_empty() {
        accepted();
    }
    let (got, ended) = run(async {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let flow = Datagrams::framed(near);
        let sending = async {
            // The reader may have given up.
            drop(far.write_all(data).await);
            drop(far.shutdown().await);
        };
        let receiving = async {
            let mut got = Vec::new();
            loop {
                match flow.recv().await {
                    Ok(Some(datagram)) => got.push(datagram),
                    ended => break (got, ended.map(drop)),
                }
            }
        };
        let (received, ()) = tokio::join!(receiving, sending);
        received
    });
    assert!(got.len() <= whole.len());
    assert!(rest.is_empty() || ended.is_err(), "half a datagram is a clean end");
    let mut left = whole.iter();
    assert!(got.iter().all(|datagram| left.any(|known| *known == &**datagram)), "others, or in another order");
    assert!(whole.len() > WAITING || ended.is_err() || got.len() == whole.len(), "{} of {}", got.len(), whole.len());
}
