//! Acting: nothing is written unless it was just looked at, judged and found possible.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;
use sluice_control_feed::{Input, MAX_WRITES, Next, Outcome, Plan};
use sluice_control_sync::{Cell, Declaration, Method, Request, Response, Row};
use sluice_node_identity::UnixTime;

const ROUNDUP: &str = include_str!("../../../integrations/roundup.toml");
const NOW: UnixTime = UnixTime(1_795_000_000);

fn row() -> Row {
    Row(vec![Cell::Integer(7), Cell::Null, Cell::Null, Cell::Null, Cell::Null])
}

fn issue(status: &str, etag: &str) -> Response {
    let body = json!({"data": {"attributes": {"title": "x", "status": {"name": status}, "assignedto": {"id": "4"}}}});
    let headers = vec![("ETag".to_owned(), format!("\"{etag}\""))];
    Response { status: 200, headers, body: body.to_string().into_bytes() }
}

fn status(status: u16) -> Response {
    Response { status, headers: vec![], body: vec![] }
}

fn if_match(request: &Request) -> Option<&str> {
    request.headers.iter().find(|(name, _)| name == "If-Match").map(|(_, value)| value.as_str())
}

/// Runs the plan against answers in order; gives what was sent and how it ended.
fn run(answers: &[Response], judged: bool) -> (Vec<Request>, Outcome) {
    let declaration = Declaration::parse(ROUNDUP).unwrap();
    let mut plan = Plan::new(&declaration, &declaration.actions[0], row(), NOW).unwrap();
    let (mut sent, mut answers, mut next) = (Vec::new(), answers.iter(), plan.step(Input::Begin));
    loop {
        next = match next {
            Next::Send(request) => {
                sent.push(request);
                plan.step(answers.next().map_or(Input::Lost, Input::Response))
            }
            Next::Judge(_) => plan.step(Input::Judged(judged)),
            Next::Finish(outcome) => return (sent, outcome),
        };
    }
}

fn writes(sent: &[Request]) -> usize {
    sent.iter().filter(|request| request.method != Method::Get).count()
}

#[test]
fn u1_u3_look_write_read_back() {
    let (sent, outcome) = run(&[issue("unread", "a"), status(200), issue("resolved", "b")], true);
    assert!(matches!(outcome, Outcome::Written(row) if row.cell(2) == &Cell::Text("resolved".into())));
    assert_eq!(
        sent.iter().map(|request| request.method).collect::<Vec<_>>(),
        [Method::Get, Method::Patch, Method::Get]
    );
    assert_eq!(if_match(&sent[1]), Some("\"a\""));
}

#[test]
fn u1_what_is_no_longer_valid_is_not_written() {
    for (answers, judged, expected) in [
        (vec![issue("resolved", "a")], true, "it was done already"),
        (vec![status(404)], true, "no longer exists"),
        (vec![issue("unread", "a")], false, "somebody else's"),
        (vec![status(401)], true, "refused your login"),
        (vec![status(503)], true, "busy"),
        (vec![], true, "cannot be reached"),
    ] {
        let (sent, outcome) = run(&answers, judged);
        assert_eq!(writes(&sent), 0, "{expected}");
        assert!(outcome.sentence("Resolve").contains(expected), "{outcome:?}");
    }
}

#[test]
fn u1_the_declared_check_is_asked_of_the_fresh_row() {
    let check = "check = { column = \"status\", compare = \"ne\", value = \"resolved\" }";
    assert!(ROUNDUP.contains(check));
    let text = ROUNDUP.replace(check, "check = { column = \"status\", value = \"unread\" }");
    let declaration = Declaration::parse(&text).unwrap();
    let mut plan = Plan::new(&declaration, &declaration.actions[0], row(), NOW).unwrap();
    plan.step(Input::Begin);
    plan.step(Input::Response(&issue("deferred", "a")));
    assert!(matches!(plan.step(Input::Judged(true)), Next::Finish(Outcome::TooLate(_))));
}

#[test]
fn u1_a_stale_etag_is_looked_at_again() {
    let answers = [issue("unread", "a"), status(412), issue("unread", "b"), status(204), issue("resolved", "c")];
    let (sent, outcome) = run(&answers, true);
    assert!(matches!(outcome, Outcome::Written(_)));
    assert_eq!(if_match(&sent[3]), Some("\"b\""));
    let answers = [issue("unread", "a"), status(412), issue("resolved", "b")];
    assert!(matches!(run(&answers, true).1, Outcome::Already(_)));
    let answers = [issue("unread", "a"), status(412), issue("unread", "b"), status(412)];
    assert!(matches!(run(&answers, true).1, Outcome::Failed(..)));
}

#[test]
fn u3_a_lost_answer_is_settled_by_looking() {
    let declaration = Declaration::parse(ROUNDUP).unwrap();
    for (back, done) in [(issue("resolved", "b"), true), (issue("unread", "a"), false)] {
        let mut plan = Plan::new(&declaration, &declaration.actions[0], row(), NOW).unwrap();
        plan.step(Input::Begin);
        plan.step(Input::Response(&issue("unread", "a")));
        plan.step(Input::Judged(true));
        assert!(matches!(plan.step(Input::Lost), Next::Send(request) if request.method == Method::Get));
        let Next::Finish(outcome) = plan.step(Input::Response(&back)) else { panic!() };
        assert_eq!(matches!(outcome, Outcome::Written(_)), done, "{outcome:?}");
    }
}

fn any_answer() -> impl Strategy<Value = Option<Response>> {
    prop_oneof![
        Just(None),
        prop::sample::select(vec![200_u16, 204, 302, 401, 403, 404, 409, 412, 429, 500, 503])
            .prop_map(|code| Some(status(code))),
        prop::sample::select(vec!["unread", "resolved"]).prop_map(|name| Some(issue(name, "e"))),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|body| Some(Response {
            status: 200,
            headers: vec![],
            body
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever is answered: it ends, writes are few, each follows a look that allowed it, and success is only what
    /// was read back.
    #[test]
    fn u1_u3_every_write_follows_a_look_and_success_is_read_back(
        answers in prop::collection::vec((any_answer(), any::<bool>()), 0..12),
    ) {
        let declaration = Declaration::parse(ROUNDUP).unwrap();
        let mut plan = Plan::new(&declaration, &declaration.actions[0], row(), NOW).unwrap();
        let mut answers = answers.iter();
        let (mut allowed, mut writes, mut steps, mut last_resolved) = (false, 0, 0, false);
        let mut next = plan.step(Input::Begin);
        loop {
            steps += 1;
            prop_assert!(steps < 20, "it ends");
            next = match next {
                Next::Send(request) => {
                    if request.method != Method::Get {
                        writes += 1;
                        prop_assert!(allowed && if_match(&request).is_some());
                    }
                    allowed = false;
                    match answers.next() {
                        Some((Some(response), _)) => {
                            last_resolved = response.body == issue("resolved", "e").body;
                            plan.step(Input::Response(response))
                        }
                        _ => plan.step(Input::Lost),
                    }
                }
                Next::Judge(row) => {
                    let may = answers.next().is_some_and(|(_, may)| *may);
                    allowed = may && row.cell(2) == &Cell::Text("unread".into());
                    plan.step(Input::Judged(may))
                }
                Next::Finish(outcome) => {
                    prop_assert!(writes <= MAX_WRITES);
                    if matches!(outcome, Outcome::Written(_) | Outcome::Already(_)) {
                        prop_assert!(last_resolved);
                    }
                    break;
                }
            }
        }
    }
}
