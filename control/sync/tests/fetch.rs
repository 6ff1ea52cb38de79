//! Fetching against a model of a paging server, and against nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_control_sync::{
    Cell, Declaration, DetailError, Fetch, FetchError, Found, Request, Response, Row, Step, detail_request,
    read_detail, write_request,
};
use sluice_node_identity::UnixTime;

const ROUNDUP: &str = include_str!("../../../integrations/roundup.toml");
const NOW: UnixTime = UnixTime(1_795_000_000);

fn roundup(size: u32, max_pages: u32) -> Declaration {
    let paging = format!("size = {size}, max_pages = {max_pages},");
    Declaration::parse(&ROUNDUP.replace("size = 100,", &paging)).unwrap()
}

fn ok(body: &Value) -> Response {
    Response { status: 200, headers: vec![], body: body.to_string().into_bytes() }
}

fn status(status: u16, headers: &[(&str, &str)]) -> Response {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Response { status, headers, body: vec![] }
}

fn user(id: u32) -> Value {
    json!({"id": id.to_string(), "username": format!("u{id}"), "address": null})
}

fn parameter(request: &Request, name: &str) -> u32 {
    let (_, query) = request.target.split_once('?').unwrap();
    let part = query.split('&').find_map(|part| part.strip_prefix(&format!("{name}="))).unwrap();
    part.parse().unwrap()
}

/// A server with `count` rows that answers by the request's own parameters.
fn serve(request: &Request, count: u32) -> Response {
    let (size, page) = (parameter(request, "%40page_size"), parameter(request, "%40page_index"));
    let rows: Vec<Value> = (1..=count).map(user).skip(((page - 1) * size) as usize).take(size as usize).collect();
    ok(&json!({"data": {"collection": rows, "@total_size": 9_800}}))
}

fn fetch_all(
    declaration: &Declaration,
    mut answer: impl FnMut(&Request) -> Response,
) -> Result<Vec<String>, FetchError> {
    let mut fetch = Fetch::new(declaration, &declaration.tables[0], NOW);
    let (mut keys, mut step) = (Vec::new(), fetch.step(None)?);
    loop {
        let request = match step {
            Step::Send(request) | Step::Wait { then: request, .. } => request,
            Step::Rows { rows, next } => {
                keys.extend(rows.into_iter().map(|(key, _)| key));
                match next {
                    Some(request) => request,
                    None => return Ok(keys),
                }
            }
        };
        step = fetch.step(Some(&answer(&request)))?;
    }
}

proptest! {
    #[test]
    fn m4_every_row_is_fetched_once(count in 0..60_u32, size in 1..12_u32) {
        let keys = fetch_all(&roundup(size, 1_000), |request| serve(request, count)).unwrap();
        prop_assert_eq!(keys, (1..=count).map(|id| id.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn m6_too_many_pages_are_an_error_never_a_shorter_table(count in 0..60_u32, size in 1..12_u32, max in 1..8_u32) {
        let result = fetch_all(&roundup(size, max), |request| serve(request, count));
        if count < size * max {
            prop_assert_eq!(result.unwrap().len(), count as usize);
        } else {
            prop_assert_eq!(result, Err(FetchError::TooManyPages(max)));
        }
    }

    /// Whatever is answered, the machine ends, and only an unbroken sequence counts as a whole table.
    #[test]
    fn a_broken_answer_is_never_a_whole_table(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0..400_usize, code in 100..600_u16, at in 0..3_u32) {
        let declaration = roundup(5, 1_000);
        let mut asked = 0;
        let result = fetch_all(&declaration, |request| {
            asked += 1;
            let mut response = serve(request, 17);
            if asked == at + 1 {
                if code % 2 == 0 {
                    response.body.truncate(cut.min(response.body.len() - 1));
                } else {
                    response.body.clone_from(&bytes);
                }
            }
            response
        });
        prop_assert!(result.is_err());
        let refused = fetch_all(&declaration, |_| status(code, &[]));
        prop_assert!(refused.is_err());
    }
}

#[test]
fn a_server_that_ignores_the_page_number_is_noticed() {
    let page = ok(&json!({"data": {"collection": [user(1), user(2)]}}));
    assert_eq!(fetch_all(&roundup(2, 1_000), |_| page.clone()), Err(FetchError::Repeats));
}

#[test]
fn refused_and_busy_are_told_apart() {
    let declaration = roundup(2, 10);
    assert_eq!(fetch_all(&declaration, |_| status(401, &[])), Err(FetchError::Unauthorized(401)));
    assert_eq!(fetch_all(&declaration, |_| status(302, &[])), Err(FetchError::Status(302)));
    assert_eq!(fetch_all(&declaration, |_| status(429, &[("Retry-After", "1")])), Err(FetchError::Busy(429)));
    assert_eq!(fetch_all(&declaration, |_| status(429, &[("Retry-After", "9999")])), Err(FetchError::Busy(429)));
    let mut first = true;
    let keys = fetch_all(
        &declaration,
        |request| {
            if std::mem::take(&mut first) { status(503, &[]) } else { serve(request, 3) }
        },
    );
    assert_eq!(keys.unwrap().len(), 3, "one 503 is waited out");
}

#[test]
fn m6_only_the_window_is_asked_for() {
    let declaration = roundup(100, 10);
    let Step::Send(request) = Fetch::new(&declaration, &declaration.tables[1], NOW).step(None).unwrap() else {
        panic!()
    };
    assert!(request.target.contains("activity=from%202026-08-20"), "{}", request.target);
    assert!(request.target.starts_with("/t/rest/data/issue?"));
    assert!(request.headers.contains(&("Host".into(), "roundup.acme.test".into())));
}

fn issue(key: i64) -> Row {
    Row(vec![Cell::Integer(key), Cell::Null, Cell::Null, Cell::Null, Cell::Null])
}

#[test]
fn one_row_is_fetched_and_written() {
    let declaration = roundup(100, 10);
    let table = &declaration.tables[1];
    let request = detail_request(&declaration, table, &issue(7)).unwrap();
    assert!(request.target.starts_with("/t/rest/data/issue/7?"));
    let body =
        json!({"data": {"id": "7", "attributes": {"title": "x", "status": {"name": "chatting"}, "assignedto": null}}});
    let mut response = ok(&body);
    response.headers.push(("ETag".into(), "\"e1\"".into()));
    let found = read_detail(table, &issue(7), &response).unwrap().unwrap();
    assert_eq!(found.row.cell(2), &Cell::Text("chatting".into()));
    let write = write_request(&declaration, &declaration.actions[0], &found).unwrap();
    assert_eq!(write.target, "/t/rest/data/issue/7");
    assert_eq!(write.body.as_deref(), Some(&b"{\"status\":\"resolved\"}"[..]));
    assert!(write.headers.contains(&("If-Match".into(), "\"e1\"".into())));
    for etag in [None, Some(""), Some("a\r\nb")] {
        let found = Found { row: found.row.clone(), etag: etag.map(str::to_owned) };
        assert_eq!(write_request(&declaration, &declaration.actions[0], &found), Err(DetailError::NoEtag));
    }
    assert_eq!(read_detail(table, &issue(7), &status(404, &[])), Ok(None));
}

#[test]
fn an_answer_about_another_row_is_refused() {
    let declaration = roundup(100, 10);
    let body = json!({"data": {"attributes": {"id": 8}}});
    assert!(read_detail(&declaration.tables[1], &issue(7), &ok(&body)).is_err());
}

proptest! {
    #[test]
    fn any_detail_bytes_are_read_or_refused(code in 100..600_u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let declaration = roundup(100, 10);
        drop(read_detail(&declaration.tables[1], &issue(7), &Response { status: code, headers: vec![], body: bytes }));
    }
}
