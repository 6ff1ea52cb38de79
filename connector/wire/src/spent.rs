//! Which tokens were already used: a bounded memory that refuses rather than forgets.

use std::collections::BTreeMap;

use sluice_node_identity::UnixTime;

use crate::{MAX_TOKEN_LIFE, TOKEN_LEEWAY};

/// How much of the memory is cleared when it is full: an eighth.
const AT_ONCE: usize = 8;
/// No good token is of use for longer than this.
const LONGEST: u64 = MAX_TOKEN_LIFE + 2 * TOKEN_LEEWAY;

/// A token's 128 random bits.
pub(crate) type TokenId = [u8; 16];

/// Why a token was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSpent {
    /// Used before.
    Already,
    /// Nothing can be remembered until older tokens have expired.
    Full,
    /// So old that its id may have been forgotten already (the clock has gone back since).
    Forgotten,
}

/// One caller's used tokens. Ids are forgotten only when room is needed, and only those that are past `useless_after`.
#[derive(Debug, Default)]
pub(crate) struct SpentTokens {
    ids: BTreeMap<TokenId, UnixTime>,
    by_end: BTreeMap<UnixTime, Vec<TokenId>>,
    /// Ids useless by this moment may have been forgotten.
    floor: Option<UnixTime>,
}

impl SpentTokens {
    /// Remembers `id`, which no check of time lets pass after `useless_after`.
    pub(crate) fn spend(
        &mut self,
        id: TokenId,
        useless_after: UnixTime,
        capacity: usize,
        now: UnixTime,
    ) -> Result<(), NotSpent> {
        if self.ids.contains_key(&id) {
            return Err(NotSpent::Already);
        }
        if self.floor.is_some_and(|floor| useless_after <= floor) {
            return Err(NotSpent::Forgotten);
        }
        if self.ids.len() >= capacity {
            self.forget_before(now, (capacity / AT_ONCE).max(1));
        }
        if self.ids.len() >= capacity {
            return Err(NotSpent::Full);
        }
        self.ids.insert(id, useless_after);
        self.by_end.entry(useless_after).or_default().push(id);
        Ok(())
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether every remembered token is past its use at `now`.
    pub(crate) fn is_idle(&self, now: UnixTime) -> bool {
        self.by_end.last_key_value().is_none_or(|(end, _)| *end < now)
    }

    /// Whether the clock has gone back so far that new tokens are refused until it has caught up.
    pub(crate) fn is_stuck(&self, capacity: usize, now: UnixTime) -> bool {
        let full = self.ids.len() >= capacity;
        let oldest = self.by_end.first_key_value().map(|(end, _)| *end).filter(|_| full);
        self.floor.is_some_and(|floor| floor > now.plus(TOKEN_LEEWAY))
            || oldest.is_some_and(|end| end > now.plus(LONGEST))
    }

    /// The oldest only, and not more than about `some`: what is still known can be told from what is new however far
    /// the clock is set back.
    fn forget_before(&mut self, now: UnixTime, some: usize) {
        let mut forgotten = 0;
        while forgotten < some
            && let Some(oldest) = self.by_end.first_entry().filter(|oldest| *oldest.key() < now)
        {
            let (end, ids) = oldest.remove_entry();
            forgotten += ids.len();
            for id in ids {
                self.ids.remove(&id);
            }
            self.floor = self.floor.max(Some(end));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 6;

    proptest! {
        /// Model: a set that never forgets. Whatever the clock does, no id is taken twice while a check of time
        /// (`useless_after >= now`) would still let it pass, and the memory stays within its bound.
        #[test]
        fn no_token_is_taken_twice_even_when_the_clock_jumps(
            steps in proptest::collection::vec((0_u8..20, 0_u64..40, 0_u64..100), 0..200)
        ) {
            let mut spent = SpentTokens::default();
            let mut ever: BTreeSet<(TokenId, UnixTime)> = BTreeSet::new();
            for (id, life, now) in steps {
                let now = UnixTime(now);
                let end = now.plus(life);
                // An id belongs to one signed token and so to one end.
                let id = [id, u8::try_from(end.0).unwrap(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                if spent.spend(id, end, CAPACITY, now).is_ok() {
                    prop_assert!(ever.insert((id, end)), "taken twice");
                }
                prop_assert!(spent.ids.len() <= CAPACITY);
                prop_assert_eq!(spent.ids.len(), spent.by_end.values().map(Vec::len).sum::<usize>());
            }
        }
    }

    #[test]
    fn c4_a_clock_that_was_ahead_for_a_while_refuses_no_good_token_when_it_is_right_again() {
        let mut spent = SpentTokens::default();
        for n in 0..6 {
            spent.spend([n; 16], UnixTime(100 + u64::from(n)), CAPACITY, UnixTime(65)).unwrap();
        }
        // A day ahead, and room is needed.
        spent.spend([6; 16], UnixTime(86_660), CAPACITY, UnixTime(86_600)).unwrap();
        spent.spend([7; 16], UnixTime(101), CAPACITY + 1, UnixTime(66)).unwrap();
        assert_eq!(spent.spend([0; 16], UnixTime(100), CAPACITY + 2, UnixTime(66)), Err(NotSpent::Forgotten));
        assert!(!spent.is_stuck(CAPACITY + 9, UnixTime(70)));
        assert!(spent.is_stuck(CAPACITY + 9, UnixTime(60)), "what was forgotten was good until 100");
        assert!(spent.is_stuck(CAPACITY, UnixTime(5)), "full of what is to come");
    }

    #[test]
    fn c4_a_caller_opens_three_thousand_streams_a_second_as_long_as_it_likes() {
        let mut spent = SpentTokens::default();
        for n in 0..150 * 3_000_u32 {
            let (mut id, now) = ([0; 16], UnixTime(1_000 + u64::from(n / 3_000)));
            id[..4].copy_from_slice(&n.to_be_bytes());
            assert_eq!(spent.spend(id, now.plus(5 + TOKEN_LEEWAY), crate::SPENT_PER_CALLER, now), Ok(()));
        }
    }

    #[test]
    fn c4_a_full_memory_refuses_until_tokens_have_expired() {
        let mut spent = SpentTokens::default();
        let id = |n: u8| [n; 16];
        for n in 0..6 {
            spent.spend(id(n), UnixTime(100), CAPACITY, UnixTime(50)).unwrap();
        }
        assert_eq!(spent.spend(id(9), UnixTime(100), CAPACITY, UnixTime(100)), Err(NotSpent::Full));
        assert_eq!(spent.spend(id(3), UnixTime(100), CAPACITY, UnixTime(100)), Err(NotSpent::Already));
        spent.spend(id(9), UnixTime(160), CAPACITY, UnixTime(101)).unwrap();
        // The clock goes back to where the forgotten tokens were good.
        assert_eq!(spent.spend(id(3), UnixTime(100), CAPACITY, UnixTime(60)), Err(NotSpent::Forgotten));
    }
}
