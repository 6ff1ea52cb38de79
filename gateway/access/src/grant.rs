//! App policy: who may open what. Nobody, unless a group says so.

use thiserror::Error;

use crate::{App, Session};

/// Proof that a session may use an app; only [`permit`] makes one, and only with one is a request forwarded.
#[derive(Clone, Debug)]
pub struct Permitted<T> {
    app: T,
    session: Session,
}

impl<T> Permitted<T> {
    /// The app.
    pub const fn app(&self) -> &T {
        &self.app
    }

    /// The session.
    pub const fn session(&self) -> &Session {
        &self.session
    }
}

/// The user is none of those whom the app is for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("your account is not in a group that may open this app; ask your administrator")]
pub struct Denied;

/// Whether `session` may use `app`: they must share a group. An app without groups is for nobody.
///
/// # Errors
/// [`Denied`]
pub fn permit(app: &App, session: Session) -> Result<Permitted<App>, Denied> {
    if app.groups.iter().any(|group| session.groups.contains(group)) {
        Ok(Permitted { app: app.clone(), session })
    } else {
        Err(Denied)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use sluice_node_identity::UnixTime;

    use super::*;
    use crate::{SessionId, Strength, Upstream};

    fn app(groups: Vec<String>) -> App {
        App {
            id: "wiki".parse().unwrap(),
            name: "Wiki".into(),
            host: "wiki.acme.test".into(),
            upstream: Upstream::Control { address: "c.test:1".into(), server_name: "c.test".into() },
            groups,
            user_header: None,
        }
    }

    fn session(groups: Vec<String>) -> Session {
        Session {
            id: SessionId::new([1; 16]),
            user: "bob".parse().unwrap(),
            email: "bob@acme.test".into(),
            display_name: "Bob".into(),
            groups,
            strength: Strength::Password,
            issued: UnixTime(1),
            expires: UnixTime(9),
        }
    }

    proptest! {
        #[test]
        fn g7_permitted_exactly_when_a_group_is_shared(
            app_groups in proptest::collection::vec("[a-c]{0,2}", 0..4),
            user_groups in proptest::collection::vec("[a-c]{0,2}", 0..4),
        ) {
            let ours: BTreeSet<_> = app_groups.iter().collect();
            let theirs: BTreeSet<_> = user_groups.iter().collect();
            let expected = ours.intersection(&theirs).next().is_some();
            prop_assert_eq!(permit(&app(app_groups.clone()), session(user_groups.clone())).is_ok(), expected);
        }
    }

    #[test]
    fn g7_an_app_without_groups_is_for_nobody() {
        assert!(permit(&app(vec![]), session(vec!["staff".into()])).is_err());
    }
}
