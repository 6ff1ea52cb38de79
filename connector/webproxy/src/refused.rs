//! Logins that were refused, and when they may be shown again.

use std::{collections::BTreeMap, time::Duration};

/// Remembers by whom (`K`) a login was refused and why (`W`): a directory locks an account that shows a wrong password
/// again and again. Times are since any fixed start, never going back.
#[derive(Clone, Debug)]
pub struct Refused<K, W>(BTreeMap<K, Entry<W>>);

#[derive(Clone, Debug)]
struct Entry<W> {
    why: W,
    pause: Duration,
    until: Duration,
}

impl<K, W> Default for Refused<K, W> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, W: Clone> Refused<K, W> {
    /// Notes that `by` refused the login at `now`: it is not shown there again for 15 minutes, twice as long each
    /// further time, at most four hours.
    pub fn note(&mut self, by: K, why: W, now: Duration) {
        let before = self.0.remove(&by);
        let pause = before.map_or(FIRST_PAUSE, |entry| entry.pause.saturating_mul(2).min(LONGEST_PAUSE));
        if self.0.len() >= MAX_REFUSED {
            let soonest = self.0.iter().min_by_key(|(_, entry)| entry.until).map(|(by, _)| by.clone());
            soonest.and_then(|by| self.0.remove(&by));
        }
        self.0.insert(by, Entry { why, pause, until: now.saturating_add(pause) });
    }

    /// Why the login may not be shown to `by` now, and for how long yet.
    #[must_use]
    pub fn standing(&self, by: &K, now: Duration) -> Option<(W, Duration)> {
        let entry = self.0.get(by).filter(|entry| entry.until > now)?;
        Some((entry.why.clone(), entry.until.saturating_sub(now)))
    }

    /// Notes that `by` took the login.
    pub fn forget(&mut self, by: &K) {
        self.0.remove(by);
    }
}

/// After the first refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// After many.
const LONGEST_PAUSE: Duration = Duration::from_secs(4 * 3600);
/// Most who are remembered.
const MAX_REFUSED: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    /// A connector that is as eager as it may be, once a second, for a day.
    #[test]
    fn c3_a_wrong_password_is_shown_ten_times_in_a_day_and_twice_in_any_half_hour() {
        let (mut refused, mut shown) = (Refused::default(), Vec::new());
        for second in 0..24 * 3600 {
            let now = Duration::from_secs(second);
            if refused.standing(&"proxy", now).is_none() {
                shown.push(now);
                refused.note("proxy", "wrong password", now);
            }
        }
        let at: Vec<Duration> = [0, 15, 45, 105, 225, 465, 705, 945, 1185, 1425].map(minutes).into();
        assert_eq!(shown, at);
        assert!(shown.windows(3).all(|three| three[2] - three[0] > minutes(30)));
    }

    #[test]
    fn c3_what_is_refused_by_one_is_not_by_another_and_what_works_is_forgotten() {
        let mut refused = Refused::default();
        refused.note(1, "wrong password", minutes(0));
        assert_eq!(refused.standing(&1, minutes(5)), Some(("wrong password", minutes(10))));
        assert_eq!(refused.standing(&2, minutes(5)), None);
        refused.note(1, "locked", minutes(15));
        assert_eq!(refused.standing(&1, minutes(16)), Some(("locked", minutes(29))));
        refused.forget(&1);
        assert_eq!(refused.standing(&1, minutes(16)), None);
        refused.note(1, "wrong password", minutes(20));
        assert_eq!(refused.standing(&1, minutes(34)).map(|(_, left)| left), Some(minutes(1)));
    }

    #[test]
    fn c3_memory_of_refusals_is_bounded_and_keeps_the_newest() {
        let mut refused = Refused::default();
        for proxy in 0..1000_u64 {
            refused.note(proxy, (), Duration::from_secs(proxy));
        }
        assert_eq!(refused.0.len(), MAX_REFUSED);
        assert!(refused.standing(&999, Duration::from_secs(1000)).is_some());
    }
}
