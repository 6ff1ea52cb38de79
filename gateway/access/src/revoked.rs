//! What has been taken back: sessions, users and nodes in the state feed, and logouts on this gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_node_identity::{NodeId, StateView, UnixTime, UserId};

use crate::{Session, SessionId};

/// How many logouts this gateway remembers; beyond it everybody logs in again.
pub const LOGOUTS_KEPT: usize = 65_536;

/// Stands in the place of a session's id where all sessions until then are meant.
const ALL: &str = "*";

/// Value of `user/<id>` in the state feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserStanding {
    /// Sessions that began at or before this moment are over.
    pub sessions_end: UnixTime,
}

/// Whether a session may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStanding {
    /// It may.
    Running,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// Key in the state feed under which a session is taken back (any value does it).
#[must_use]
pub fn session_key(id: &SessionId) -> String {
    format!("session/{id}")
}

/// Key in the state feed under which a user's sessions are taken back ([`UserStanding`]).
#[must_use]
pub fn user_key(user: &UserId) -> String {
    format!("user/{user}")
}

/// What `session` is worth at `now`. A value that is not understood counts as revoked.
#[must_use]
pub fn standing(session: &Session, state: &StateView, logouts: &Logouts, now: UnixTime) -> SessionStanding {
    if !session.is_running(now) {
        return SessionStanding::Expired;
    }
    let ended = match state.value(&user_key(&session.user)) {
        None => false,
        Some(value) => UserStanding::deserialize(value).map_or(true, |user| session.issued <= user.sessions_end),
    };
    if ended || state.value(&session_key(&session.id)).is_some() || logouts.ended(session) {
        SessionStanding::Revoked
    } else {
        SessionStanding::Running
    }
}

/// Whether a node was taken back (`node/<id>` in the state feed; any value does it).
#[must_use]
pub fn is_node_revoked(node: &NodeId, state: &StateView) -> bool {
    state.value(&format!("node/{node}")).is_some()
}

/// Sessions that users ended on this gateway.
#[derive(Clone, Debug, Default)]
pub struct Logouts {
    ended: BTreeMap<SessionId, UnixTime>,
    all_before: Option<UnixTime>,
}

impl Logouts {
    /// Ends `session`. When too many are remembered, every session that began until now ends instead: forgetting one
    /// would bring it back.
    pub fn end(&mut self, session: &Session, now: UnixTime) {
        if self.ended.len() >= LOGOUTS_KEPT {
            self.ended.retain(|_, expires| *expires > now);
        }
        if self.ended.len() >= LOGOUTS_KEPT {
            self.ended.clear();
            self.all_before = Some(now);
        } else {
            self.ended.insert(session.id.clone(), session.expires);
        }
    }

    /// What [`Self::end`] of this session adds to [`Self::to_text`].
    #[must_use]
    pub fn line(session: &Session) -> String {
        format!("{} {}\n", session.id, session.expires.0)
    }

    /// All that must still be known at `now`, a line each, to be kept where it outlives the process.
    #[must_use]
    pub fn to_text(&self, now: UnixTime) -> String {
        let all = self.all_before.map(|moment| format!("{ALL} {}\n", moment.0));
        let running = self.ended.iter().filter(|(_, expires)| **expires > now);
        all.into_iter().chain(running.map(|(id, expires)| format!("{id} {}\n", expires.0))).collect()
    }

    /// Reads what was kept. A last line without its end was being written when the process died: nobody was told that
    /// it counts. Any other line that cannot be read, or too many of them, end everything that began until `now`.
    #[must_use]
    pub fn from_text(text: &str, now: UnixTime) -> Self {
        let mut read = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let moment = |text: &str| text.parse().ok().map(UnixTime);
            match line.split_once(' ').and_then(|(what, when)| Some((what, moment(when)?))) {
                Some((ALL, at)) => read.all_before = read.all_before.max(Some(at)),
                Some((_, expires)) if expires <= now => {}
                Some((id, expires)) if read.ended.len() < LOGOUTS_KEPT => match id.parse() {
                    Ok(id) => drop(read.ended.insert(id, expires)),
                    Err(_) => read.all_before = read.all_before.max(Some(now)),
                },
                _ => read.all_before = read.all_before.max(Some(now)),
            }
        }
        read
    }

    fn ended(&self, session: &Session) -> bool {
        self.all_before.is_some_and(|moment| session.issued <= moment) || self.ended.contains_key(&session.id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;
    use sluice_node_identity::StateEvent;

    use super::*;
    use crate::Strength;

    fn session(id: u128, issued: u64) -> Session {
        Session {
            id: SessionId::new(id.to_be_bytes()),
            user: "bob".parse().unwrap(),
            email: "bob@acme.test".into(),
            display_name: "Bob".into(),
            groups: vec![],
            strength: Strength::Password,
            issued: UnixTime(issued),
            expires: UnixTime(issued + 100),
        }
    }

    fn state(key: &str, value: serde_json::Value) -> StateView {
        let mut view = StateView::default();
        view.apply(StateEvent::Snapshot { seq: 1, entries: [(key.to_owned(), value)].into() }).unwrap();
        view
    }

    #[test]
    fn revoked_session_or_user_is_refused_and_others_are_not() {
        let (none, now) = (Logouts::default(), UnixTime(50));
        let mine = session(1, 10);
        assert_eq!(standing(&mine, &StateView::default(), &none, now), SessionStanding::Running);
        assert_eq!(standing(&mine, &StateView::default(), &none, UnixTime(110)), SessionStanding::Expired);
        let taken = state(&session_key(&mine.id), serde_json::json!({}));
        assert_eq!(standing(&mine, &taken, &none, now), SessionStanding::Revoked);
        assert_eq!(standing(&session(2, 10), &taken, &none, now), SessionStanding::Running);
        let user = state("user/bob", serde_json::json!({"sessions_end": 10}));
        assert_eq!(standing(&mine, &user, &none, now), SessionStanding::Revoked);
        assert_eq!(standing(&session(2, 11), &user, &none, now), SessionStanding::Running);
    }

    #[test]
    fn a_value_that_is_not_understood_revokes() {
        let odd = state("user/bob", serde_json::json!("?"));
        assert_eq!(standing(&session(1, 10), &odd, &Logouts::default(), UnixTime(50)), SessionStanding::Revoked);
    }

    #[test]
    fn too_many_logouts_end_everybody_and_bring_nobody_back() {
        let mut logouts = Logouts::default();
        let now = UnixTime(50);
        for id in 0..=(LOGOUTS_KEPT as u128) {
            logouts.end(&session(id, 10), now);
        }
        let view = StateView::default();
        for id in [0, 7, LOGOUTS_KEPT as u128, 1 << 100] {
            assert_eq!(standing(&session(id, 10), &view, &logouts, now), SessionStanding::Revoked);
        }
        assert_eq!(standing(&session(1 << 100, 51), &view, &logouts, UnixTime(60)), SessionStanding::Running);
    }

    #[test]
    fn logouts_are_kept_as_text_and_damage_ends_everybody() {
        let (view, now) = (StateView::default(), UnixTime(50));
        let mut logouts = Logouts::default();
        let (mine, other) = (session(1, 10), session(2, 10));
        logouts.end(&mine, now);
        let stands = |text: &str, session| standing(session, &view, &Logouts::from_text(text, now), now);
        let text = logouts.to_text(now);
        assert_eq!(text, Logouts::line(&mine));
        assert_eq!((stands(&text, &mine), stands(&text, &other)), (SessionStanding::Revoked, SessionStanding::Running));
        assert_eq!(logouts.to_text(mine.expires), "", "what has expired is not kept");
        let cut = format!("{text}{}", Logouts::line(&other).trim_end());
        assert_eq!((stands(&cut, &mine), stands(&cut, &other)), (SessionStanding::Revoked, SessionStanding::Running));
        for damaged in ["?\n", "* \n", "x 99\n", "\0\0\0\n", &format!("{text}\n")] {
            assert_eq!(stands(damaged, &other), SessionStanding::Revoked, "{damaged:?}");
        }
        assert_eq!(stands("* 10\n", &other), SessionStanding::Revoked);
        assert_eq!(stands("* 9\n", &other), SessionStanding::Running);
    }

    proptest! {
        #[test]
        fn what_is_kept_ends_the_same_sessions(ids in proptest::collection::vec(0_u128..8, 0..8), all in any::<bool>()) {
            let (view, now) = (StateView::default(), UnixTime(50));
            let mut logouts = Logouts { all_before: all.then_some(UnixTime(5)), ..Logouts::default() };
            ids.iter().for_each(|id| logouts.end(&session(*id, 10), now));
            let read = Logouts::from_text(&logouts.to_text(now), now);
            for (id, issued) in (0..8).flat_map(|id| [(id, 4), (id, 10)]) {
                let session = session(id, issued);
                prop_assert_eq!(standing(&session, &view, &read, now), standing(&session, &view, &logouts, now));
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[*0-9 a-zA-Z_\n-]{0,200}|.{0,100}") {
            let _read = Logouts::from_text(&text, UnixTime(50));
        }
    }
}
