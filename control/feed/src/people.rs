//! Users as rules see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_control_sync::Me;
use sluice_node_identity::UserId;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Login name.
    pub user: UserId,
    /// Mail address.
    pub email: String,
}

impl Person {
    /// Whether a value found in a row means this user. An empty value means nobody.
    #[must_use]
    pub fn is(&self, me: Me, value: &str) -> bool {
        let own = match me {
            // Only ASCII is folded: other alphabets have letters that fold into ASCII ones.
            Me::MyEmail => self.email.eq_ignore_ascii_case(value),
            Me::MyLogin => self.user.as_str() == value,
        };
        own && !value.is_empty()
    }
}

/// The users of a tenant who may get cards, found by address or login.
#[derive(Clone, Debug, Default)]
pub struct People {
    by_email: BTreeMap<String, Vec<Person>>,
    by_login: BTreeMap<String, Person>,
}

impl People {
    /// Indexes `people`; leave disabled accounts out.
    #[must_use]
    pub fn new(people: impl IntoIterator<Item = Person>) -> Self {
        let mut index = Self::default();
        for person in people {
            index.by_email.entry(person.email.to_ascii_lowercase()).or_default().push(person.clone());
            index.by_login.insert(person.user.as_str().to_owned(), person);
        }
        index
    }

    /// Users whom a value means.
    pub(crate) fn find(&self, me: Me, value: &str) -> Vec<&Person> {
        let found: Vec<&Person> = match me {
            Me::MyEmail => self.by_email.get(&value.to_ascii_lowercase()).into_iter().flatten().collect(),
            Me::MyLogin => self.by_login.get(value).into_iter().collect(),
        };
        found.into_iter().filter(|person| person.is(me, value)).collect()
    }

    /// One user by login.
    #[must_use]
    pub fn user(&self, user: &UserId) -> Option<&Person> {
        self.by_login.get(user.as_str())
    }
}
