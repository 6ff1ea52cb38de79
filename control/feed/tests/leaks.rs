//! M9: whatever the rows and rules, nobody sees another's row or gets another's card.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, convert::Infallible};

use proptest::prelude::*;
use sluice_control_feed::{Context, Lookup, People, Person, derive, see, verdict};
use sluice_control_sync::{Cell, Change, ChangeKind, Declaration, Key, Row};
use sluice_node_identity::UnixTime;

const ROUNDUP: &str = include_str!("../../../integrations/roundup.toml");
const NOW: UnixTime = UnixTime(1_795_000_000);
const ISSUE_RULE: &str = "viewer = { column = \"assignedto\", references = { table = \"user\", column = \"address\" }, is = \"my-email\" }\ndetail";

/// The shipped declaration with another viewer rule on issues.
fn declaration(rule: u8) -> Declaration {
    let viewer = match rule {
        0 => {
            "viewer = { column = \"assignedto\", references = { table = \"user\", column = \"address\" }, is = \"my-email\" }"
        }
        1 => {
            "viewer = { column = \"assignedto\", references = { table = \"user\", column = \"username\" }, is = \"my-login\" }"
        }
        2 => "viewer = { column = \"title\", is = \"my-email\" }",
        _ => "viewer = { column = \"title\", is = \"my-login\" }",
    };
    assert!(ROUNDUP.contains(ISSUE_RULE));
    Declaration::parse(&ROUNDUP.replace(ISSUE_RULE, &format!("{viewer}\ndetail"))).unwrap()
}

#[derive(Debug)]
struct Users(BTreeMap<Key, Row>);

impl Lookup for Users {
    type Error = Infallible;

    fn cell(&self, table: usize, key: &Key, column: usize) -> Result<Cell, Infallible> {
        assert_eq!(table, 0, "only users are referred to");
        Ok(self.0.get(key).map_or(Cell::Null, |row| row.cell(column).clone()))
    }
}

/// Values near each other: empty, other case, look-alikes.
fn text() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::Null),
        prop::sample::select(vec![
            "",
            "bob",
            "alice",
            "Bob",
            "bob@x",
            "BOB@X",
            "alice@x",
            "\u{212a}ob@x",
            "bob@x ",
            "kob@x"
        ])
        .prop_map(|text| Cell::Text(text.to_owned())),
    ]
}

fn users() -> impl Strategy<Value = Users> {
    prop::collection::btree_map(0..5_i64, (text(), text()), 0..5).prop_map(|users| {
        Users(
            users
                .into_iter()
                .map(|(id, (name, address))| (id.to_string(), Row(vec![Cell::Integer(id), name, address])))
                .collect(),
        )
    })
}

fn issue() -> impl Strategy<Value = Row> {
    let assigned = prop_oneof![Just(Cell::Null), (0..7_i64).prop_map(Cell::Integer)];
    let status = prop::sample::select(vec!["unread", "resolved"]);
    (text(), status, assigned).prop_map(|(title, status, assigned)| {
        Row(vec![Cell::Integer(1), title, Cell::Text(status.into()), Cell::Text("2026-11-01".into()), assigned])
    })
}

fn people() -> Vec<Person> {
    [("bob", "bob@x"), ("alice", "alice@x"), ("kob", "kob@x")]
        .map(|(user, email)| Person { user: user.parse().unwrap(), email: email.into() })
        .to_vec()
}

/// Said again, another way: which single text names the owner of an issue, and whom it names.
fn owner(rule: u8, row: &Row, users: &Users) -> Option<&'static str> {
    let text = |cell: &Cell| if let Cell::Text(text) = cell { text.clone() } else { String::new() };
    let named = if rule >= 2 {
        text(row.cell(1))
    } else {
        let Cell::Integer(id) = row.cell(4) else { return None };
        let user = users.0.get(&id.to_string())?;
        text(user.cell(if rule == 0 { 2 } else { 1 }))
    };
    match (rule, named.as_str()) {
        (0 | 2, "bob@x" | "BOB@X") | (1 | 3, "bob") => Some("bob"),
        (0 | 2, "alice@x") | (1 | 3, "alice") => Some("alice"),
        (0 | 2, "kob@x") => Some("kob"),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn m9_a_row_is_seen_by_its_owner_and_nobody_else(rule in 0..4_u8, row in issue(), users in users()) {
        let declaration = declaration(rule);
        for person in people() {
            let seen = see(&declaration, 1, &row, &users, &person).unwrap().is_some();
            prop_assert_eq!(seen, owner(rule, &row, &users) == Some(person.user.as_str()), "{:?}", person);
        }
    }

    #[test]
    fn m9_m8_cards_go_to_whoever_may_see_the_row_and_nobody_else(
        rule in 0..4_u8, before in prop::option::of(issue()), after in issue(), users in users(), generation in 0..3_u64,
    ) {
        let declaration = declaration(rule);
        let (tenant, integration) = ("acme".parse().unwrap(), "roundup".parse().unwrap());
        let context = Context { tenant: &tenant, integration: &integration, declaration: &declaration, generation, now: NOW };
        let change = Change { table: 1, key: "1".into(), before: before.clone(), after: Some(after.clone()) };
        let people = People::new(people());
        let cards = derive(context, &change, &users, &people).unwrap();
        for card in &cards {
            let user = Some(card.user.as_str());
            prop_assert_eq!(owner(rule, &after, &users), user, "the viewer rule");
            prop_assert_eq!(owner(0, &after, &users), user, "the audience");
            prop_assert_ne!(before.as_ref().map_or(&Cell::Null, |row| row.cell(4)), after.cell(4));
            prop_assert_eq!(after.cell(2), &Cell::Text("unread".into()));
            let still = verdict(context, &card.rule, card.text.kind, Some(&after), people.user(&card.user), &users);
            prop_assert_eq!(still.unwrap(), None, "a card is not over when it is made");
        }
        let assigned = before.as_ref().map_or(&Cell::Null, |row| row.cell(4)) != after.cell(4);
        let due = assigned && after.cell(2) == &Cell::Text("unread".into())
            && owner(0, &after, &users).is_some() && owner(rule, &after, &users) == owner(0, &after, &users);
        prop_assert_eq!(cards.len(), usize::from(due));
        prop_assert_eq!(derive(context, &change, &users, &people).unwrap(), cards, "the same ids again");
    }
}

#[test]
fn m9_without_a_viewer_rule_nobody_sees_a_row() {
    let text = ROUNDUP.replace("viewer = { column = \"address\", is = \"my-email\" }", "");
    let declaration = Declaration::parse(&text).unwrap();
    let row = Row(vec![Cell::Integer(1), Cell::Text("bob".into()), Cell::Text("bob@x".into())]);
    let users = Users(BTreeMap::new());
    for person in people() {
        assert!(see(&declaration, 0, &row, &users, &person).unwrap().is_none());
        assert!(see(&declaration, 99, &row, &users, &person).unwrap().is_none());
    }
}

#[test]
fn m8_a_card_closes_when_its_row_says_so() {
    let declaration = declaration(0);
    let (tenant, integration) = ("acme".parse().unwrap(), "roundup".parse().unwrap());
    let context =
        Context { tenant: &tenant, integration: &integration, declaration: &declaration, generation: 1, now: NOW };
    let user =
        |id: i64, address: &str| (id.to_string(), Row(vec![Cell::Integer(id), Cell::Null, Cell::Text(address.into())]));
    let users = Users([user(1, "bob@x"), user(2, "alice@x")].into());
    let issue = |status: &str, assigned: i64| {
        Row(vec![Cell::Integer(1), Cell::Null, Cell::Text(status.into()), Cell::Null, Cell::Integer(assigned)])
    };
    let people = people();
    let judge = |row: Option<Row>, person: Option<&Person>, rule: &str, kind| {
        verdict(context, rule, kind, row.as_ref(), person, &users).unwrap()
    };
    let (bob, rule, change) = (people.first(), "assigned-to-me", ChangeKind::Change);
    assert_eq!(judge(Some(issue("unread", 1)), bob, rule, change), None);
    assert_eq!(judge(Some(issue("resolved", 1)), bob, rule, change), Some("it is done"));
    assert_eq!(judge(Some(issue("unread", 2)), bob, rule, change), Some("it is somebody else's now"));
    assert_eq!(judge(None, bob, rule, change), Some("the record is gone"));
    assert_eq!(judge(None, bob, rule, ChangeKind::Delete), None, "a card about a deletion outlives the row");
    assert_eq!(judge(Some(issue("unread", 1)), None, rule, change), Some("the account is disabled"));
    assert_eq!(judge(Some(issue("unread", 1)), bob, "gone", change), Some("its rule was removed"));
}
