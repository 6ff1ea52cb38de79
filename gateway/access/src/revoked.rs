//! What has been taken back: sessions, users and nodes in the state feed, and logouts on this gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_node_identity::{NodeId, StateView, UnixTime, UserId};

use crate::{Session, SessionId};

/// How many logouts this gateway remembers; beyond it everybody logs in again.
pub const LOGOUTS_KEPT: usize = 65_536;

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

    fn ended(&self, session: &Session) -> bool {
        self.all_before.is_some_and(|moment| session.issued <= moment) || self.ended.contains_key(&session.id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
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
}
