//! On whose behalf streams are open, so that all of somebody's end at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Everybody who has streams. A cut costs as much as that subject has streams, however many others there are.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    subjects: HashMap<String, Subject>,
}

#[derive(Debug)]
struct Subject {
    /// Tells a subject's streams from those it had before a cut.
    number: u64,
    streams: usize,
    cut: CancellationToken,
}

/// One stream's entry in [`Subjects`].
#[derive(Debug)]
pub(crate) struct Entered {
    subjects: Arc<Subjects>,
    name: String,
    number: u64,
    pub(crate) cut: CancellationToken,
}

impl Subjects {
    pub(crate) fn enter(self: &Arc<Self>, name: &str) -> Entered {
        let mut open = self.lock();
        let Open { next, subjects } = &mut *open;
        let subject = subjects.entry(name.to_owned()).or_insert_with(|| {
            *next += 1;
            Subject { number: *next, streams: 0, cut: CancellationToken::new() }
        });
        subject.streams += 1;
        Entered { subjects: self.clone(), name: name.to_owned(), number: subject.number, cut: subject.cut.clone() }
    }

    /// Ends the subject's streams and gives how many there were.
    pub(crate) fn cut(&self, name: &str) -> usize {
        let Some(subject) = self.lock().subjects.remove(name) else { return 0 };
        subject.cut.cancel();
        subject.streams
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.subjects.lock();
        let Some(subject) = open.subjects.get_mut(&self.name).filter(|subject| subject.number == self.number) else {
            return;
        };
        subject.streams -= 1;
        if subject.streams == 0 {
            open.subjects.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_what_is_open_and_nothing_that_comes_later() {
        let subjects = Arc::new(Subjects::default());
        let (one, two, other) = (subjects.enter("user/a"), subjects.enter("user/a"), subjects.enter("user/b"));
        assert_eq!(subjects.cut("user/a"), 2);
        assert!(one.cut.is_cancelled() && two.cut.is_cancelled() && !other.cut.is_cancelled());
        let later = subjects.enter("user/a");
        drop((one, two));
        assert!(!later.cut.is_cancelled());
        assert_eq!(subjects.cut("user/a"), 1, "old entries that go do not take the new one with them");
        drop((later, other));
        assert!(subjects.lock().subjects.is_empty(), "nobody is remembered for nothing");
    }
}
