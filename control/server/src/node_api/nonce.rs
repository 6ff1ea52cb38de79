//! Nonces for joins: control keeps nothing for a nonce it gave out, only for one that was used.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_node_identity::UnixTime;

/// Seconds a nonce is good for.
const SECONDS: u64 = 60;
/// Used nonces remembered. A full memory refuses joins instead of forgetting.
const USED: usize = 20_000;
/// Layout: expiry (8), random (8), MAC over both (16).
const LENGTH: usize = 32;

/// Gives out and takes back nonces.
pub(super) struct Nonces {
    key: hmac::Key,
    used: BTreeSet<[u8; LENGTH]>,
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), used: BTreeSet::new() }
    }

    /// A fresh one, as it travels.
    pub(super) fn give(&self, random: [u8; 8], now: UnixTime) -> String {
        let front = [now.plus(SECONDS).0.to_be_bytes(), random].concat();
        let mac = hmac::sign(&self.key, &front);
        URL_SAFE_NO_PAD.encode([&front, mac.as_ref().get(..16).unwrap_or_default()].concat())
    }

    /// The bytes of one of ours that is still good.
    pub(super) fn open(&self, text: &str, now: UnixTime) -> Option<[u8; LENGTH]> {
        let bytes: [u8; LENGTH] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (front, mac) = bytes.split_at(16);
        let right = hmac::sign(&self.key, front);
        aws_lc_rs::constant_time::verify_slices_are_equal(right.as_ref().get(..16)?, mac).ok()?;
        (expiry(&bytes) >= now && !self.used.contains(&bytes)).then_some(bytes)
    }

    /// Marks one as used; false when it was before, or no more can be remembered.
    pub(super) fn spend(&mut self, nonce: [u8; LENGTH], now: UnixTime) -> bool {
        // The set is ordered by expiry, so what is over stands in front.
        while self.used.first().is_some_and(|first| expiry(first) < now) {
            self.used.pop_first();
        }
        self.used.len() < USED && self.used.insert(nonce)
    }
}

fn expiry(nonce: &[u8; LENGTH]) -> UnixTime {
    let [a, b, c, d, e, f, g, h, ..] = *nonce;
    UnixTime(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_nonce_is_good_once_for_a_minute_at_its_own_control() {
        let (mut ours, theirs) = (Nonces::new(&[1; 32]), Nonces::new(&[2; 32]));
        let text = ours.give([7; 8], UnixTime(1000));
        assert!(theirs.open(&text, UnixTime(1000)).is_none());
        assert!(ours.open(&text, UnixTime(1061)).is_none());
        let nonce = ours.open(&text, UnixTime(1060)).unwrap();
        assert!(ours.spend(nonce, UnixTime(1060)));
        assert!(!ours.spend(nonce, UnixTime(1060)));
        assert!(ours.open(&text, UnixTime(1060)).is_none());
    }

    #[test]
    fn memory_of_used_nonces_is_bounded_and_refuses_when_full() {
        let mut nonces = Nonces::new(&[1; 32]);
        let nth = |nonces: &Nonces, n: u64, now| {
            let text = nonces.give(n.to_be_bytes(), UnixTime(now));
            nonces.open(&text, UnixTime(now)).unwrap()
        };
        for n in 0..USED as u64 {
            let nonce = nth(&nonces, n, 1000);
            assert!(nonces.spend(nonce, UnixTime(1000)));
        }
        let more = nth(&nonces, 1 << 40, 1000);
        assert!(!nonces.spend(more, UnixTime(1000)));
        let later = nth(&nonces, 1 << 40, 1061);
        assert!(nonces.spend(later, UnixTime(1061)));
        assert_eq!(nonces.used.len(), 1);
    }

    proptest! {
        #[test]
        fn invented_nonces_are_refused(text in "[A-Za-z0-9_-]{0,60}") {
            prop_assert!(Nonces::new(&[1; 32]).open(&text, UnixTime(0)).is_none());
        }
    }
}
