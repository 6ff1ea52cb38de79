//! Two sessions against a model of two byte pipes, and a session against a peer that means harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::task::Waker;

use proptest::prelude::*;

use super::{
    header::{ACK, FIN, Header, Kind, RST, SYN},
    input::Input,
    session::{FIRST_WINDOW, MAX_STREAMS, OUT_LIMIT, STREAM_WINDOW, Session, Violation, WINDOW_RESERVE},
    slot::{Read, Write},
};
use crate::End;

/// A session, and the line that leads to it.
struct Side {
    session: Session,
    input: Input,
    line: Vec<u8>,
    opened: Vec<u32>,
}

impl Side {
    fn new(end: End) -> Self {
        Self { session: Session::new(end), input: Input::default(), line: Vec::new(), opened: Vec::new() }
    }

    fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.take_output(&mut out, Waker::noop());
        out
    }

    /// At most so many bytes arrive.
    fn arrive(&mut self, most: usize) -> Result<bool, Violation> {
        let now = most.min(self.line.len());
        self.input.bytes.extend_from_slice(&self.line[..now]);
        self.line.drain(..now);
        self.input.hand_over(&mut self.session, &mut self.opened)
    }

    fn hear(&mut self, header: Header) -> Result<bool, Violation> {
        self.hear_body(header, &[])
    }

    fn hear_body(&mut self, header: Header, body: &[u8]) -> Result<bool, Violation> {
        self.line.extend_from_slice(&header.encode());
        self.line.extend_from_slice(body);
        self.arrive(usize::MAX)
    }

    fn read(&mut self, id: u32, most: usize) -> (Read, Vec<u8>) {
        let mut got = Vec::new();
        let read = self.session.read(id, most, Waker::noop(), |bytes| got.extend_from_slice(bytes));
        (read, got)
    }

    fn write(&mut self, id: u32, bytes: &[u8]) -> Write {
        self.session.write(id, bytes, Waker::noop())
    }
}

fn agent() -> Side {
    Side::new(End::Agent)
}

/// The byte at a place of a direction's stream of bytes.
fn byte(stream: u32, place: usize) -> u8 {
    (place.wrapping_mul(31) ^ stream as usize).to_le_bytes()[0]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Write { side: usize, stream: usize, bytes: usize },
    Read { side: usize, stream: usize, bytes: usize },
    Finish { side: usize, stream: usize },
    Drop { side: usize, stream: usize },
    Arrive { side: usize, bytes: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (side, stream) = (0..2_usize, 0..6_usize);
    let size = prop_oneof![0..20_usize, 0..100_000_usize];
    proptest::collection::vec(
        prop_oneof![
            2 => Just(Step::Open),
            6 => (side.clone(), stream.clone(), size.clone())
                .prop_map(|(side, stream, bytes)| Step::Write { side, stream, bytes }),
            6 => (side.clone(), stream.clone(), size.clone())
                .prop_map(|(side, stream, bytes)| Step::Read { side, stream, bytes }),
            1 => (side.clone(), stream.clone()).prop_map(|(side, stream)| Step::Finish { side, stream }),
            1 => (side.clone(), stream).prop_map(|(side, stream)| Step::Drop { side, stream }),
            8 => (side, size).prop_map(|(side, bytes)| Step::Arrive { side, bytes }),
        ],
        0..200,
    )
}

/// One end of one stream, as the model knows it.
#[derive(Clone, Copy, Debug, Default)]
struct Pipe {
    held: bool,
    written: usize,
    read: usize,
    finished: bool,
    failed: bool,
}

/// Index 0 is the gateway, which opens; 1 the agent.
struct World {
    sides: [Side; 2],
    streams: Vec<(u32, [Pipe; 2])>,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Open => {
                if self.streams.len() < 6 {
                    let id = self.sides[0].session.open().unwrap();
                    self.streams.push((id, [Pipe { held: true, ..Pipe::default() }, Pipe::default()]));
                }
            }
            Step::Write { side, stream, bytes } => self.write(side, stream, bytes),
            Step::Read { side, stream, bytes } => {
                self.read(side, stream, bytes);
            }
            Step::Finish { side, stream } => {
                if let Some((id, pipes)) = self.streams.get_mut(stream)
                    && pipes[side].held
                {
                    assert_eq!(self.sides[side].session.finish(*id), Write::Finished);
                    pipes[side].finished = true;
                }
            }
            Step::Drop { side, stream } => {
                if let Some((id, pipes)) = self.streams.get_mut(stream)
                    && std::mem::take(&mut pipes[side].held)
                {
                    self.sides[side].session.forget(*id);
                }
            }
            Step::Arrive { side, bytes } => self.arrive(side, bytes),
        }
    }

    fn arrive(&mut self, side: usize, bytes: usize) {
        let sent = self.sides[1 - side].output();
        self.sides[side].line.extend_from_slice(&sent);
        assert_eq!(self.sides[side].arrive(bytes), Ok(false));
        for id in std::mem::take(&mut self.sides[side].opened) {
            let (_, pipes) = self.streams.iter_mut().find(|(known, _)| *known == id).expect("opened by nobody");
            assert!(side == 1 && !pipes[1].held, "opened twice");
            pipes[1].held = true;
        }
    }

    fn write(&mut self, side: usize, stream: usize, bytes: usize) {
        let Some((id, pipes)) = self.streams.get_mut(stream) else { return };
        if !pipes[side].held || bytes == 0 {
            return;
        }
        let written = pipes[side].written;
        let bytes: Vec<u8> = (written..written + bytes).map(|place| byte(*id, place)).collect();
        match self.sides[side].write(*id, &bytes) {
            Write::Bytes(taken) => {
                assert!(!pipes[side].finished && (1..=bytes.len()).contains(&taken));
                pipes[side].written += taken;
            }
            Write::Wait => assert!(!pipes[side].finished),
            Write::Finished => assert!(pipes[side].finished),
            Write::Reset => assert!(!pipes[1 - side].held, "reset by one who holds it"),
            Write::Gone => panic!("the connection lives"),
        }
    }

    /// True when there may be more.
    fn read(&mut self, side: usize, stream: usize, bytes: usize) -> bool {
        let Some((id, pipes)) = self.streams.get_mut(stream) else { return false };
        if !pipes[side].held || pipes[side].failed || bytes == 0 {
            return false;
        }
        let (read, got) = self.sides[side].read(*id, bytes);
        let other = pipes[1 - side];
        match read {
            Read::Bytes(count) => {
                assert!((1..=bytes).contains(&count) && got.len() == count);
                let place = pipes[side].read;
                assert!(got.iter().enumerate().all(|(n, got)| *got == byte(*id, place + n)), "other bytes");
                pipes[side].read += count;
                assert!(pipes[side].read <= other.written);
            }
            Read::Wait => return false,
            Read::End => {
                assert!(other.finished && pipes[side].read == other.written, "an end that is none");
                return false;
            }
            Read::Reset => {
                assert!(!other.held && !other.finished, "a reset that is none");
                pipes[side].failed = true;
                return false;
            }
            Read::Gone => panic!("the connection lives"),
        }
        true
    }

    /// Everything arrives; then every reader finds what it was promised.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut moved = false;
            for side in 0..2 {
                self.arrive(side, usize::MAX);
                for stream in 0..self.streams.len() {
                    while self.read(side, stream, 1 << 20) {
                        moved = true;
                    }
                }
            }
            if !moved {
                break;
            }
        }
        for (id, pipes) in &self.streams {
            for side in 0..2 {
                let (reader, writer) = (pipes[side], pipes[1 - side]);
                // A reader that never heard of the stream holds nothing.
                if reader.held && !reader.failed && writer.finished {
                    assert_eq!(reader.read, writer.written, "stream {id}: bytes are missing");
                    assert_eq!(self.sides[side].read(*id, 1).0, Read::End);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn streams_are_pairs_of_byte_pipes(steps in steps()) {
        let sides = [Side::new(End::Gateway), agent()];
        let mut world = World { sides, streams: Vec::new() };
        for step in steps {
            world.step(step);
        }
        world.settle();
    }

    #[test]
    fn no_bytes_harm_a_session(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for end in [End::Agent, End::Gateway] {
            let mut side = Side::new(end);
            side.line.clone_from(&bytes);
            let _refused = side.arrive(usize::MAX);
            prop_assert!(side.output().len() <= bytes.len());
        }
    }

    #[test]
    fn no_frames_harm_a_session(frames in proptest::collection::vec(
        (0..4_u8, 0..16_u16, 0..8_u32, prop_oneof![0..200_u32, any::<u32>()]), 0..200)) {
        let mut side = agent();
        side.session.open().unwrap();
        for (kind, flags, stream, length) in frames {
            let kind = [Kind::Data, Kind::WindowUpdate, Kind::Ping, Kind::GoAway][usize::from(kind)];
            let body = if kind == Kind::Data && length < 200 { length as usize } else { 0 };
            if side.hear_body(Header::new(kind, flags, stream, length), &vec![0; body]).is_err() {
                break;
            }
        }
        side.session.vanish();
    }
}

#[test]
fn a_window_that_is_never_opened_stops_the_writer_and_takes_no_memory() {
    let mut side = agent();
    let id = side.session.open().unwrap();
    let mut taken = 0;
    while let Write::Bytes(more) = side.write(id, &[0; 100_000]) {
        taken += more;
        drop(side.output());
    }
    assert_eq!(taken, FIRST_WINDOW as usize);
    // Nor does it when nothing leaves.
    let mut side = agent();
    let ids: Vec<u32> = (0..MAX_STREAMS).map(|_| side.session.open().unwrap()).collect();
    assert!(side.session.open().is_none());
    for id in ids {
        while let Write::Bytes(_) = side.write(id, &[0; 100_000]) {}
    }
    assert!(side.output().len() < 2 * OUT_LIMIT + MAX_STREAMS * 5000);
}

#[test]
fn many_streams_share_a_full_line_and_none_starves() {
    let mut side = agent();
    let ids: Vec<u32> = (0..100).map(|_| side.session.open().unwrap()).collect();
    for _ in 0..3 {
        for id in &ids {
            assert!(matches!(side.write(*id, &[0; 100_000]), Write::Bytes(4096..)), "stream {id} starves");
        }
        drop(side.output());
    }
}

#[test]
fn a_million_tiny_frames_take_little_more_memory_than_their_bytes() {
    let mut side = agent();
    side.hear(Header::new(Kind::WindowUpdate, SYN, 2, 0)).unwrap();
    for _ in 0..FIRST_WINDOW {
        side.hear_body(Header::new(Kind::Data, 0, 2, 1), b"x").unwrap();
    }
    assert!(side.session.held_memory() <= 2 * FIRST_WINDOW as usize, "{}", side.session.held_memory());
    assert_eq!(side.hear_body(Header::new(Kind::Data, 0, 2, 1), b"x"), Err(Violation::Window));
    // One byte on each stream that may be.
    let mut side = agent();
    for n in 1..=MAX_STREAMS {
        side.hear_body(Header::new(Kind::Data, SYN, u32::try_from(2 * n).unwrap(), 1), b"x").unwrap();
    }
    assert!(side.session.held_memory() <= MAX_STREAMS * 1024, "{}", side.session.held_memory());
}

#[test]
fn opening_and_resetting_in_one_frame_leaves_no_stream_behind() {
    for kind in [Kind::Data, Kind::WindowUpdate] {
        let mut side = agent();
        let ended = (1..=2 * MAX_STREAMS)
            .find_map(|n| side.hear(Header::new(kind, SYN | RST, u32::try_from(2 * n).unwrap(), 0)).err());
        assert_eq!(ended, Some(Violation::Frame), "{kind:?}");
    }
}

#[test]
fn frames_that_carry_nothing_end_the_connection() {
    let nothing = [
        Header::new(Kind::Data, 0, 2, 0),
        Header::new(Kind::WindowUpdate, 0, 2, 0),
        Header::new(Kind::WindowUpdate, 0, 400, 1),
        Header::new(Kind::Data, RST, 400, 0),
        Header::new(Kind::Ping, ACK, 0, 7),
    ];
    for frame in nothing {
        let mut side = agent();
        side.hear(Header::new(Kind::WindowUpdate, SYN, 2, 0)).unwrap();
        let ended = (0..20_000).find_map(|_| side.hear(frame).err());
        assert_eq!(ended, Some(Violation::Idle), "{frame:?}");
    }
    // Pings are answered, to one who listens and not for ever.
    let mut side = agent();
    let ended = (0..1000).find_map(|n| side.hear(Header::new(Kind::Ping, SYN, 0, n)).err());
    assert_eq!(ended, Some(Violation::Deaf));
    let mut side = agent();
    let ended = (0..20_000).find_map(|n| {
        let heard = side.hear(Header::new(Kind::Ping, SYN, 0, n)).err();
        assert_eq!(side.output().len(), if heard.is_some() { 0 } else { 12 });
        heard
    });
    assert_eq!(ended, Some(Violation::Idle));
}

#[test]
fn streams_are_opened_in_order_and_never_twice() {
    let open = |id| Header::new(Kind::WindowUpdate, SYN, id, 0);
    // A jump is the peer's own loss; going back, another's number, or a number again is not.
    let mut side = agent();
    side.hear(open(2)).unwrap();
    side.hear(open(2000)).unwrap();
    for id in [0, 1, 2, 4, 2000, 1001] {
        assert_eq!(side.hear(open(id)), Err(Violation::StreamId), "{id}");
    }
    side.session.forget(2000);
    assert_eq!(side.hear(open(2000)), Err(Violation::StreamId));
    // As many as may be.
    let mut side = agent();
    let ended = (1..1000).find_map(|n| side.hear(open(2 * n)).err().map(|violation| (n, violation)));
    assert_eq!(ended, Some((1 + u32::try_from(MAX_STREAMS).unwrap(), Violation::Streams)));
    // An agent has its line.
    let mut side = Side::new(End::Gateway);
    side.hear(open(1)).unwrap();
    assert_eq!(side.hear(open(3)), Err(Violation::Streams));
}

#[test]
fn streams_opened_and_reset_at_once_are_counted_until_their_holders_let_go() {
    let mut side = agent();
    let ended = (1..10_000_u32).find_map(|n| {
        side.hear(Header::new(Kind::WindowUpdate, SYN, 2 * n, 0)).err().or_else(|| {
            side.hear(Header::new(Kind::WindowUpdate, RST, 2 * n, 0)).unwrap();
            None
        })
    });
    assert_eq!(ended, Some(Violation::Streams));
    // Refusals that nobody reads end the connection, too.
    let mut side = agent();
    let ended = (1..1_000_000_u32).find_map(|n| {
        let heard = side.hear(Header::new(Kind::WindowUpdate, SYN, 2 * n, 0)).err();
        side.session.forget(2 * n);
        heard
    });
    assert_eq!(ended, Some(Violation::Deaf));
    assert!(side.output().len() < 4 * 1024 * 1024);
}

#[test]
fn credit_beyond_reason_and_bytes_beyond_credit_end_the_connection() {
    let mut side = agent();
    side.hear(Header::new(Kind::WindowUpdate, SYN, 2, 0)).unwrap();
    assert_eq!(side.hear(Header::new(Kind::WindowUpdate, 0, 2, u32::MAX)), Err(Violation::Window));
    assert_eq!(side.hear(Header::new(Kind::Data, 0, 2, FIRST_WINDOW + 1)), Err(Violation::Window));
    assert_eq!(side.hear(Header::new(Kind::Data, SYN, 4, u32::MAX)), Err(Violation::Window));
    // After the end nothing may come.
    side.hear(Header::new(Kind::Data, FIN, 2, 0)).unwrap();
    assert_eq!(side.hear(Header::new(Kind::Data, 0, 2, 1)), Err(Violation::Frame));
}

#[test]
fn windows_grow_with_readers_that_keep_up_and_only_with_them() {
    let (mut sender, mut reader) = (Side::new(End::Gateway), agent());
    let streams: Vec<u32> = (0..8).map(|_| sender.session.open().unwrap()).collect();
    for _ in 0..60 {
        for id in &streams {
            while let Write::Bytes(_) = sender.write(*id, &[0; 65_536]) {
                reader.line.extend(sender.output());
            }
            reader.line.extend(sender.output());
        }
        reader.arrive(usize::MAX).unwrap();
        for id in &streams[1..] {
            while let (Read::Bytes(_), _) = reader.read(*id, 1 << 20) {}
        }
        sender.line.extend(reader.output());
        sender.arrive(usize::MAX).unwrap();
    }
    let windows: Vec<u32> = streams.iter().map(|id| reader.session.window_of(*id)).collect();
    assert_eq!(windows[0], FIRST_WINDOW, "nobody reads the first one");
    assert!(windows.contains(&STREAM_WINDOW), "{windows:?}");
    assert!(windows.iter().map(|window| window - FIRST_WINDOW).sum::<u32>() <= WINDOW_RESERVE);
    // What one gives back, another may have.
    for id in &streams {
        reader.session.forget(*id);
    }
    assert_eq!(reader.session.reserve_left(), WINDOW_RESERVE);
}

#[test]
fn a_body_that_arrives_slowly_counts_against_its_window() {
    let mut side = agent();
    let half = FIRST_WINDOW as usize / 2;
    side.line.extend(Header::new(Kind::Data, SYN, 2, FIRST_WINDOW).encode());
    side.line.extend(vec![7; half]);
    side.arrive(usize::MAX).unwrap();
    assert_eq!(side.read(2, half).0, Read::Bytes(half));
    // The window is open again, and the other half is still on its way.
    assert_eq!(side.session.held_of(2), side.session.window_of(2));
}
