//! The shipped declaration is read, and broken ones are refused with their place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use sluice_control_sync::Declaration;

const ROUNDUP: &str = include_str!("../../../integrations/roundup.toml");

fn refused(from: &str, to: &str) -> String {
    assert!(ROUNDUP.contains(from), "the shipped text holds {from}");
    Declaration::parse(&ROUNDUP.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn m3_the_shipped_declaration_is_read() {
    let roundup = Declaration::parse(ROUNDUP).unwrap();
    assert_eq!(roundup.service.host, "roundup.acme.test");
    assert_eq!(roundup.service.prefix, "/t/");
    assert_eq!(roundup.full_every, 86_400);
    assert_eq!(roundup.tables.len(), 2);
    let origin = roundup.actions[0].headers.iter().find(|(name, _)| name == "Origin").unwrap();
    assert_eq!(origin.1, "https://roundup.acme.test");
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (from, to, says) in [
        ("schema = 1", "schema = 2", "schema 2 is not known"),
        ("auth = \"basic\"", "auth = \"none\"", "unknown variant"),
        ("auth = \"basic\"", "auth = \"basic\"\npassword = \"x\"", "unknown field `password`"),
        ("https://roundup.acme.test/t/", "ftp://x/", "starts with http"),
        ("https://roundup.acme.test/t/", "https://user:pw@x/", "no plain host"),
        ("name = \"issue\"", "name = \"user\"", "used twice"),
        ("type = \"integer\", key = true", "type = \"integer\"", "table user: exactly one column"),
        ("path = \"rest/data/user\"", "path = \"../admin\"", "table user: the path"),
        ("path = \"rest/data/user\"", "path = \"/admin\"", "table user: the path"),
        ("size = 100,", "size = 0,", "paging.size"),
        ("table = \"user\", column = \"address\"", "table = \"users\", column = \"address\"", "no table \"users\""),
        ("title = \"Issue {id}", "title = \"Issue {idd}", "event assigned-to-me: \"Issue {idd}"),
        ("actions = [\"resolve\"]", "actions = [\"close\"]", "no action \"close\""),
        ("\"Origin\" = \"{origin}\"", "\"Authorization\" = \"x\"", "cannot be declared"),
        ("\"Origin\" = \"{origin}\"", "\"Origin\" = \"a\\r\\nb: c\"", "not plain ASCII"),
        (
            "close = { column = \"status\", value",
            "close = { column = \"status\", verb = \"becomes\", value",
            "only the verb",
        ),
        ("expect = { column = \"status\", value = \"resolved\" }", "expect = {}", "may not be empty"),
        ("method = \"PATCH\"", "method = \"GET\"", "write.method"),
        ("verb = \"changes\"", "verb = \"changes\", value = 1", "exactly one of value"),
        ("days = 90", "days = 0", "window.days"),
    ] {
        let text = refused(from, to);
        assert!(text.contains(says), "{to}: {text}");
    }
}

#[test]
fn n3_a_card_shows_few_columns() {
    let columns = "{id} {title} {status} {activity} {assignedto}";
    assert!(refused("body = \"{title}\"", &format!("body = \"{columns}\"")).contains("at most 4 columns"));
}

#[test]
fn m9_an_event_on_a_table_nobody_may_read_is_refused() {
    let line = "viewer = { column = \"assignedto\", references = { table = \"user\", column = \"address\" }, is = \"my-email\" }";
    assert!(refused(line, "").contains("has no viewer rule"));
}

#[test]
fn u1_an_action_without_detail_is_refused() {
    let line = ROUNDUP.lines().find(|line| line.starts_with("detail = ")).unwrap();
    assert!(refused(line, "").contains("has no detail"));
}

proptest! {
    /// Any damage to the text is read or refused, never a panic.
    #[test]
    fn damaged_text_never_panics(at in 0..ROUNDUP.len(), len in 0..40_usize, with in ".{0,12}") {
        let from = ROUNDUP.floor_char_boundary(at);
        let to = ROUNDUP.ceil_char_boundary((at + len).min(ROUNDUP.len()));
        let text = format!("{}{with}{}", &ROUNDUP[..from], &ROUNDUP[to..]);
        drop(Declaration::parse(&text));
        drop(Declaration::parse(&ROUNDUP[..from]));
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        prop_assert!(Declaration::parse(&text).is_err());
    }
}
