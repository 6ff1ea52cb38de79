//! Pauses between attempts: doubling, bounded, spread so that connectors do not come back all at once.

use std::time::Duration;

/// The next pause, and the one after it.
#[derive(Debug)]
pub(crate) struct Pause {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Pause {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// Between half and all of the current pause; doubles it.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next.min(self.max);
        self.next = whole.saturating_mul(2).min(self.max);
        let mut random = [0_u8; 2];
        // Without randomness the pause is merely not spread.
        let spread = aws_lc_rs::rand::fill(&mut random).map_or(u16::MAX, |()| u16::from_be_bytes(random));
        whole.div_f64(2.0) + whole.div_f64(2.0).mul_f64(f64::from(spread) / f64::from(u16::MAX))
    }

    pub(crate) const fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_start_again() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut pause = Pause::new(min, max);
        for n in 0..20 {
            let whole = min.saturating_mul(1 << n.min(10)).min(max);
            let now = pause.next();
            assert!(now >= whole.div_f64(2.0) && now <= whole, "{n}: {now:?} of {whole:?}");
        }
        pause.reset();
        assert!(pause.next() <= min);
    }
}
