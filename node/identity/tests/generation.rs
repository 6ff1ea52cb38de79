//! Bound keys against a model that remembers every key ever issued.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::{collection::vec, prelude::*};
use sluice_node_identity::{
    Binding, BoundKey, Fingerprint, Lock, Presented, RejoinRefused, RenewRefused, Renewal, UnixTime,
};

fn key(number: u8) -> Fingerprint {
    Fingerprint::of(&[b'k', number])
}

fn bound(number: u8, generation: u64) -> BoundKey {
    let csr = Fingerprint::of(&[b'c', number]);
    BoundKey { key: key(number), csr, generation, certificate: format!("certificate {number} of {generation}") }
}

#[derive(Clone, Debug)]
enum Step {
    Present(u8),
    Renew { with: u8, to: u8 },
    Rejoin(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..6_u8;
    prop_oneof![
        number.clone().prop_map(Step::Present),
        (number.clone(), number.clone()).prop_map(|(with, to)| Step::Renew { with, to }),
        number.prop_map(Step::Rejoin),
    ]
}

/// Who was ever in use, in order (the last is current), who is pending, whether it is locked.
struct Model {
    used: Vec<u8>,
    pending: Option<u8>,
    locked: bool,
    rejoins_left: u32,
}

impl Model {
    fn current(&self) -> u8 {
        *self.used.last().unwrap()
    }

    fn use_key(&mut self, number: u8) -> bool {
        if self.locked {
            return false;
        }
        if number == self.current() {
            return true;
        }
        if self.pending == Some(number) {
            self.used.push(number);
            self.pending = None;
            return true;
        }
        self.locked = self.used.contains(&number);
        false
    }
}

proptest! {
    #[test]
    fn c4_binding_agrees_with_the_model(steps in vec(step(), 0..60)) {
        let mut binding = Binding::joined(bound(0, 1));
        let mut model = Model { used: vec![0], pending: None, locked: false, rejoins_left: Binding::REJOINS };
        for (at, step) in steps.into_iter().enumerate() {
            let now = UnixTime(at as u64);
            match step {
                Step::Present(number) => {
                    let accepted = model.use_key(number);
                    let presented = binding.present(&key(number), now);
                    prop_assert_eq!(accepted, matches!(presented, Presented::Current | Presented::Promoted(_)));
                    if let Presented::Promoted(next) | Presented::Cloned(next) = presented {
                        binding = next;
                    }
                }
                // Control refuses a key that was ever bound, before it asks the binding.
                Step::Renew { with, to } if !model.used.contains(&to) => {
                    match binding.renew(&key(with), &bound(to, 0).csr) {
                        Ok(Renewal::Again(again)) => prop_assert_eq!((again.key, model.pending), (key(to), Some(to))),
                        Ok(Renewal::Issue { generation }) => {
                            prop_assert_eq!(generation, model.used.len() as u64 + 1);
                            prop_assert_ne!(model.pending, Some(to));
                            binding = binding.renewed(bound(to, generation));
                            model.pending = Some(to);
                        }
                        Err(RenewRefused::Locked) => prop_assert!(model.locked),
                        Err(RenewRefused::NotCurrent) => prop_assert!(!model.locked && with != model.current()),
                    }
                }
                Step::Renew { .. } => {}
                Step::Rejoin(number) => match binding.rejoin(&key(number)) {
                    Ok(next) => {
                        prop_assert!(model.use_key(number), "re-joined with a key that is not the newest");
                        model.rejoins_left -= 1;
                        binding = next;
                    }
                    Err(RejoinRefused::Locked) => prop_assert!(model.locked),
                    Err(RejoinRefused::Spent) => prop_assert_eq!(model.rejoins_left, 0),
                    Err(RejoinRefused::NotNewest) => {
                        prop_assert!(number != model.current() && model.pending != Some(number));
                    }
                },
            }
            prop_assert_eq!(model.locked, binding.lock.is_some());
            prop_assert_eq!(&binding.current.key, &key(model.current()));
            prop_assert_eq!(binding.pending.clone().map(|pending| pending.key), model.pending.map(key));
            prop_assert_eq!(binding.rejoins_left, model.rejoins_left);
            prop_assert!(binding.retired.len() <= Binding::RETIRED_KEPT);
        }
    }
}

#[test]
fn c4_old_generation_used_after_the_new_one_locks_both() {
    let binding = Binding::joined(bound(0, 1)).renewed(bound(1, 2));
    assert_eq!(binding.present(&key(0), UnixTime(5)), Presented::Current, "g stays good until g+1 is used");
    let Presented::Promoted(binding) = binding.present(&key(1), UnixTime(6)) else { panic!("not promoted") };
    let Presented::Cloned(binding) = binding.present(&key(0), UnixTime(7)) else { panic!("not recognised") };
    assert_eq!(binding.lock, Some(Lock::Clone { generation: 1, at: UnixTime(7) }));
    assert_eq!(binding.present(&key(0), UnixTime(8)), Presented::Locked);
    assert_eq!(binding.present(&key(1), UnixTime(8)), Presented::Locked);
    assert_eq!(binding.renew(&key(1), &key(2)), Err(RenewRefused::Locked));
    assert_eq!(binding.rejoin(&key(1)), Err(RejoinRefused::Locked));
}

#[test]
fn c4_same_request_at_the_same_generation_is_answered_again() {
    let binding = Binding::joined(bound(0, 1)).renewed(bound(1, 2));
    assert_eq!(binding.renew(&key(0), &bound(1, 2).csr), Ok(Renewal::Again(bound(1, 2))));
    assert_eq!(binding.renew(&key(0), &bound(2, 2).csr), Ok(Renewal::Issue { generation: 2 }));
}

#[test]
fn stranger_does_not_lock_a_node() {
    assert_eq!(Binding::joined(bound(0, 1)).present(&key(9), UnixTime(1)), Presented::Unknown);
}

#[test]
fn retired_keys_are_recognised_as_long_as_they_are_kept() {
    let mut binding = Binding::joined(bound(0, 1));
    for number in 1..=20 {
        binding = binding.renewed(bound(number, u64::from(number) + 1));
        let Presented::Promoted(next) = binding.present(&key(number), UnixTime(1)) else { panic!("not promoted") };
        binding = next;
    }
    assert!(matches!(binding.present(&key(19), UnixTime(2)), Presented::Cloned(_)));
    assert!(matches!(binding.present(&key(4), UnixTime(2)), Presented::Cloned(_)));
    assert_eq!(binding.present(&key(3), UnixTime(2)), Presented::Unknown, "forgotten, but still not accepted");
}
