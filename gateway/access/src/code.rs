//! Hand-over codes are good once: those that were used.

use std::collections::BTreeMap;

use sluice_node_identity::UnixTime;
use thiserror::Error;

/// Seconds a hand-over code lives.
pub const CODE_SECONDS: u64 = 30;
/// How many used codes are remembered at a time; when full, new ones are refused, never forgotten.
pub const SPENT_CODES: usize = 65_536;

/// Why a code is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CodeRefused {
    /// Older than [`CODE_SECONDS`], from the future, or from before this process.
    #[error("this sign-in step is too old; open the app again")]
    Expired,
    /// Used before.
    #[error("this sign-in step was used before; open the app again")]
    Spent,
    /// Too many sign-ins at once.
    #[error("too many people are signing in at this moment; try again in half a minute")]
    Full,
}

/// The memory of used codes. It does not outlive the process, so codes made before `started` are refused.
#[derive(Clone, Debug)]
pub struct SpentCodes {
    started: UnixTime,
    spent: BTreeMap<[u8; 16], UnixTime>,
    most: usize,
}

impl SpentCodes {
    /// Nothing spent yet.
    #[must_use]
    pub const fn new(started: UnixTime) -> Self {
        Self { started, spent: BTreeMap::new(), most: SPENT_CODES }
    }

    /// Spends the code named `id` that was made at `made`.
    ///
    /// # Errors
    /// [`CodeRefused`]
    pub fn spend(&mut self, id: [u8; 16], made: UnixTime, now: UnixTime) -> Result<(), CodeRefused> {
        if made < self.started || made > now || now.since(made) >= CODE_SECONDS {
            return Err(CodeRefused::Expired);
        }
        if self.spent.contains_key(&id) {
            return Err(CodeRefused::Spent);
        }
        if self.spent.len() >= self.most {
            self.spent.retain(|_, made| now.since(*made) < CODE_SECONDS);
        }
        if self.spent.len() >= self.most {
            return Err(CodeRefused::Full);
        }
        self.spent.insert(id, made);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set that forgets nothing: what we accept is never accepted twice, and only fresh codes are.
        #[test]
        fn never_twice_and_only_fresh(steps in proptest::collection::vec((0u8..6, 0u64..40, 0u64..20), 0..200)) {
            let mut ours = SpentCodes { started: UnixTime(100), spent: BTreeMap::new(), most: 4 };
            let (mut now, mut seen) = (100u64, std::collections::BTreeSet::new());
            for (id, age, step) in steps {
                now += step;
                let made = UnixTime(now.saturating_sub(age));
                // A code's id is random, so an id made again is another code only when it was made at another time.
                let key = [id ^ u8::try_from(made.0 % 251).unwrap(); 16];
                if ours.spend(key, made, UnixTime(now)).is_ok() {
                    prop_assert!(age < CODE_SECONDS && made.0 >= 100);
                    prop_assert!(seen.insert((key, made)));
                }
                prop_assert!(ours.spent.len() <= 4);
            }
        }
    }

    #[test]
    fn full_refuses_and_time_frees() {
        let mut codes = SpentCodes { started: UnixTime(0), spent: BTreeMap::new(), most: 2 };
        codes.spend([1; 16], UnixTime(10), UnixTime(10)).unwrap();
        codes.spend([2; 16], UnixTime(10), UnixTime(10)).unwrap();
        assert_eq!(codes.spend([3; 16], UnixTime(10), UnixTime(10)), Err(CodeRefused::Full));
        assert_eq!(codes.spend([1; 16], UnixTime(10), UnixTime(12)), Err(CodeRefused::Spent));
        codes.spend([3; 16], UnixTime(40), UnixTime(40)).unwrap();
    }

    #[test]
    fn codes_from_before_a_restart_are_refused() {
        let mut codes = SpentCodes::new(UnixTime(100));
        assert_eq!(codes.spend([1; 16], UnixTime(99), UnixTime(101)), Err(CodeRefused::Expired));
        assert_eq!(codes.spend([1; 16], UnixTime(102), UnixTime(101)), Err(CodeRefused::Expired));
    }
}
