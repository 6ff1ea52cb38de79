//! One direction of a line as a state machine: a frame comes, and is lost or leaves at a known time.

use std::time::Duration;

/// How one direction of a line behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Added to every frame.
    pub delay: Duration,
    /// Frames lost at random, of each million.
    pub loss_ppm: u32,
    /// Bits per second of Ethernet frames; `None`: as fast as the machine.
    pub rate: Option<u64>,
    /// Bytes that may wait for the rate; what comes then is dropped.
    pub queue: u64,
    /// Largest packet in bytes, without its Ethernet header. Larger ones vanish silently: a black hole. Who wants an
    /// ICMP answer instead puts a router with a smaller device MTU there.
    pub mtu: usize,
    /// Of the random losses.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { delay: Duration::ZERO, loss_ppm: 0, rate: None, queue: 1 << 20, mtu: 1500, seed: 1 }
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves at this time, after all that were offered before.
    Leaves(Duration),
    /// Lost at random.
    Lost,
    /// Did not fit the queue.
    Dropped,
    /// Larger than the MTU.
    TooBig,
}

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
const NANOS: u128 = 1_000_000_000;

/// State of one direction. Times count from any fixed start and never go back.
#[derive(Clone, Debug)]
pub struct Pipe {
    shape: Shape,
    random: u64,
    /// When the line has sent all it has taken.
    free: Duration,
    last: Duration,
}

impl Pipe {
    /// An empty line.
    #[must_use]
    pub const fn new(shape: Shape) -> Self {
        Self { shape, random: shape.seed, free: Duration::ZERO, last: Duration::ZERO }
    }

    /// Another shape from now on; a new seed starts its losses anew.
    pub fn reshape(&mut self, shape: Shape) {
        if shape.seed != self.shape.seed {
            self.random = shape.seed;
        }
        self.shape = shape;
    }

    /// A whole Ethernet frame comes.
    pub fn offer(&mut self, now: Duration, frame: &[u8]) -> Fate {
        let shape = self.shape;
        if frame.len().saturating_sub(ETHERNET) > shape.mtu {
            return Fate::TooBig;
        }
        if !is_neighbour_talk(frame) && self.draw() < u64::from(shape.loss_ppm) {
            return Fate::Lost;
        }
        let mut leaves = now;
        if let Some(rate) = shape.rate {
            let waiting = self.free.saturating_sub(now).as_nanos() * u128::from(rate) / (8 * NANOS);
            if waiting + frame.len() as u128 > u128::from(shape.queue) {
                return Fate::Dropped;
            }
            self.free = self.free.max(now) + sending_time(frame.len(), rate);
            leaves = self.free;
        }
        self.last = self.last.max(leaves + shape.delay);
        Fate::Leaves(self.last)
    }

    /// Below a million (SplitMix64; Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 1_000_000
    }
}

fn sending_time(bytes: usize, rate: u64) -> Duration {
    let nanos = bytes as u128 * 8 * NANOS / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What neighbours say to each other (multicast, ARP, neighbour discovery) belongs to the emulation, not to the line
/// that is emulated: it is never lost, and takes no draw, so that the same seed loses the same packets.
fn is_neighbour_talk(frame: &[u8]) -> bool {
    if frame.first().is_some_and(|first| first & 1 == 1) {
        return true;
    }
    let kind = frame.get(12..14);
    let icmp_type = || frame.get(20).filter(|next| **next == 58).and_then(|_| frame.get(54));
    match kind {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => icmp_type().is_some_and(|kind| (133..=137).contains(kind)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Fate, Pipe, Shape};

    const FRAME: [u8; 1514] = [0; 1514];

    fn leaving(fate: Fate) -> Option<Duration> {
        if let Fate::Leaves(at) = fate { Some(at) } else { None }
    }

    #[test]
    fn delay_is_added_and_order_kept_when_it_shrinks() {
        let shape = Shape { delay: Duration::from_millis(20), ..Shape::default() };
        let mut pipe = Pipe::new(shape);
        let first = pipe.offer(Duration::from_millis(5), &FRAME);
        assert_eq!(first, Fate::Leaves(Duration::from_millis(25)));
        pipe.reshape(Shape { delay: Duration::ZERO, ..shape });
        assert_eq!(pipe.offer(Duration::from_millis(6), &FRAME), first, "a later frame may not overtake");
    }

    #[test]
    fn losses_are_as_many_as_asked_and_the_same_for_the_same_seed() {
        let lost = |seed| -> Vec<bool> {
            let mut pipe = Pipe::new(Shape { loss_ppm: 10_000, seed, ..Shape::default() });
            (0..100_000_u64).map(|at| pipe.offer(Duration::from_micros(at), &FRAME) == Fate::Lost).collect()
        };
        let seven = lost(7);
        let count = seven.iter().filter(|lost| **lost).count();
        assert!((800..1200).contains(&count), "{count} of 100,000 at 1 %");
        assert_eq!(seven, lost(7));
        assert_ne!(seven, lost(8));
    }

    #[test]
    fn the_rate_spaces_frames_and_a_full_queue_drops() {
        // 1514 bytes at 12.112 Mbit/s take one millisecond; the queue holds three of them.
        let shape = Shape { rate: Some(12_112_000), queue: 3 * 1514, ..Shape::default() };
        let mut pipe = Pipe::new(shape);
        let fates: Vec<Fate> = (0..4).map(|_| pipe.offer(Duration::ZERO, &FRAME)).collect();
        for (number, fate) in (1..=3).zip(&fates) {
            assert_eq!(*fate, Fate::Leaves(Duration::from_millis(number)));
        }
        assert_eq!(fates.last(), Some(&Fate::Dropped));
        let later = leaving(pipe.offer(Duration::from_millis(1), &FRAME));
        assert_eq!(later, Some(Duration::from_millis(4)), "one has left, so there is room for one");
    }

    #[test]
    fn what_is_larger_than_the_mtu_vanishes_and_neighbour_talk_is_never_lost() {
        let mut pipe = Pipe::new(Shape { mtu: 1280, loss_ppm: 1_000_000, ..Shape::default() });
        assert_eq!(pipe.offer(Duration::ZERO, &FRAME), Fate::TooBig);
        assert_eq!(pipe.offer(Duration::ZERO, &[0; 60]), Fate::Lost);
        let mut arp = [0; 60];
        (arp[12], arp[13]) = (0x08, 0x06);
        assert!(leaving(pipe.offer(Duration::ZERO, &arp)).is_some());
        let mut solicitation = [0; 86];
        (solicitation[12], solicitation[13], solicitation[20], solicitation[54]) = (0x86, 0xdd, 58, 135);
        assert!(leaving(pipe.offer(Duration::ZERO, &solicitation)).is_some());
        let mut multicast = [0; 90];
        multicast[..2].copy_from_slice(&[0x33, 0x33]);
        assert!(leaving(pipe.offer(Duration::ZERO, &multicast)).is_some());
    }
}
