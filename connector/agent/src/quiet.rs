//! How many lines one asker may put into the log: a hostile gateway must not fill the disk.

use std::{collections::BTreeMap, mem, time::Duration};

/// Lines of one asker in a [`WINDOW`].
const LINES: u32 = 10;
/// How long a count lasts.
const WINDOW: Duration = Duration::from_secs(10);
/// Askers that are told apart; those beyond share one count. A document names at most 64 gateways.
const ASKERS: usize = 256;

/// Counts lines by asker.
#[derive(Debug, Default)]
pub(crate) struct Quiet(BTreeMap<String, Window>);

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    said: u32,
    unsaid: u64,
}

impl Quiet {
    /// Whether a line about `who` may be written at `now` (since the agent's start): how many before it were not.
    pub(crate) fn may_say(&mut self, who: &str, now: Duration) -> Option<u64> {
        let known = self.0.contains_key(who) || self.0.len() < ASKERS;
        let window = self.0.entry(if known { who } else { "others" }.to_owned()).or_default();
        if now.saturating_sub(window.began) >= WINDOW {
            (window.began, window.said) = (now, 0);
        }
        if window.said >= LINES {
            window.unsaid = window.unsaid.saturating_add(1);
            return None;
        }
        window.said += 1;
        Some(mem::take(&mut window.unsaid))
    }

    /// Forgets counts that are over; gives those whose last lines were never written.
    pub(crate) fn tidy(&mut self, now: Duration) -> Vec<(String, u64)> {
        let over = |window: &Window| now.saturating_sub(window.began) >= WINDOW;
        let unsaid = self.0.iter().filter(|(_, window)| over(window) && window.unsaid > 0);
        let unsaid = unsaid.map(|(who, window)| (who.clone(), window.unsaid)).collect();
        self.0.retain(|_, window| !over(window));
        unsaid
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every event is either written, or counted in a later line or in what `tidy` gives; and no asker gets
        /// more than his lines in a window.
        #[test]
        fn nothing_is_lost_and_nobody_writes_more_than_his_lines(
            events in proptest::collection::vec((0_u8..3, 0_u64..3_000), 0..400)
        ) {
            let (mut quiet, mut now) = (Quiet::default(), Duration::ZERO);
            let (mut seen, mut told) = (0_u64, 0_u64);
            let mut written: BTreeMap<u8, Vec<Duration>> = BTreeMap::new();
            for (who, wait) in events {
                now += Duration::from_millis(wait);
                seen += 1;
                if let Some(before) = quiet.may_say(&format!("gw-{who}"), now) {
                    told += before + 1;
                    written.entry(who).or_default().push(now);
                }
                if wait % 7 == 0 {
                    told += quiet.tidy(now).iter().map(|(_, unsaid)| unsaid).sum::<u64>();
                }
            }
            told += quiet.tidy(now + WINDOW).iter().map(|(_, unsaid)| unsaid).sum::<u64>();
            prop_assert_eq!(seen, told);
            for lines in written.values() {
                // Two windows may touch.
                let most = LINES as usize * 2;
                let crowded = lines.windows(most + 1).any(|some| some[most] - some[0] < WINDOW);
                prop_assert!(!crowded);
            }
        }
    }

    #[test]
    fn askers_beyond_the_bound_share_one_count() {
        let mut quiet = Quiet::default();
        for number in 0..ASKERS * 3 {
            quiet.may_say(&format!("gw-{number}"), Duration::ZERO);
        }
        assert!(quiet.0.len() <= ASKERS + 1);
        assert_eq!(quiet.may_say("gw-new", Duration::ZERO), None);
        assert!(quiet.may_say("gw-1", Duration::ZERO).is_some());
    }
}
