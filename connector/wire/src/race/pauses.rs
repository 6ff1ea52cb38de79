//! Pauses: doubling, bounded, spread so that connectors do not come back all at once.

use std::time::Duration;

/// Spreads pauses. The seed comes from the shell; nothing secret depends on it (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Spread(u64);

impl Spread {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between half of `whole` and all of it.
    pub(super) fn over(&mut self, whole: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u32::from((mixed >> 48) as u16);
        let half = whole / 2;
        half + half * share / u32::from(u16::MAX)
    }
}

/// A pause that doubles each time it is taken.
#[derive(Clone, Debug)]
pub(super) struct Doubling {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Doubling {
    pub(super) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The current pause, spread; the one after it is twice as long.
    pub(super) fn take(&mut self, spread: &mut Spread) -> Duration {
        let whole = self.next.min(self.max);
        self.next = whole.saturating_mul(2).min(self.max);
        spread.over(whole)
    }

    pub(super) const fn reset(&mut self) {
        self.next = self.min;
    }
}

/// Lets a few through at once and then one per interval.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    burst: u32,
    every: Duration,
    /// When all of the burst is there again.
    full_at: Duration,
}

impl Allowance {
    pub(super) const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_at: Duration::ZERO }
    }

    pub(super) fn take(&mut self, now: Duration) -> bool {
        let full_at = self.full_at.max(now) + self.every;
        let fits = full_at <= now + self.every * self.burst;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_start_again() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let (mut pause, mut spread) = (Doubling::new(min, max), Spread::new(7));
        let mut seen = Vec::new();
        for n in 0..20 {
            let whole = min.saturating_mul(1 << n.min(10)).min(max);
            let now = pause.take(&mut spread);
            assert!(now >= whole / 2 && now <= whole, "{n}: {now:?} of {whole:?}");
            seen.push(now);
        }
        seen.dedup();
        assert!(seen.len() > 15, "pauses are spread");
        pause.reset();
        assert!(pause.take(&mut spread) <= min);
    }

    #[test]
    fn an_allowance_lets_a_burst_through_and_then_one_per_interval() {
        let mut allowance = Allowance::new(3, Duration::from_secs(10));
        let at = Duration::from_secs;
        let taken: Vec<bool> = [0, 0, 0, 0, 9, 10, 11, 60, 60, 60, 60].map(|s| allowance.take(at(s))).to_vec();
        assert_eq!(taken, [true, true, true, false, false, true, false, true, true, true, false]);
    }
}
