//! What systems of record answer, and the declarations that say how to ask.

use sluice_control_sync::{
    Cell, Declaration, Fetch, Found, MAX_KEY, MAX_TEXT, MAX_WAIT, Request, Response, Row, Step, detail_request,
    read_detail, write_request,
};

use crate::{
    codec::{accepted, lines, text},
    fixtures::{self, NOW},
};

/// Declarations: whatever passes can be asked with, and no request says more than it should.
pub fn declaration(data: &[u8]) {
    let text = text(data);
    let Ok(declaration) = Declaration::parse(&text) else { return };
    accepted();
    assert_eq!(Declaration::parse(&text).as_ref(), Ok(&declaration));
    assert!(declaration.tables.len() <= Declaration::MAX_TABLES);
    for table in &declaration.tables {
        assert!(table.key < table.columns.len() && table.columns.len() <= Declaration::MAX_COLUMNS);
        let Ok(Step::Send(request)) = Fetch::new(&declaration, table, NOW).step(None) else { panic!() };
        is_sound(&declaration, &request);
        let row = Row(vec![Cell::Text("../?#\r\n%2e".into()); table.columns.len()]);
        if let Ok(request) = detail_request(&declaration, table, &row) {
            is_sound(&declaration, &request);
        }
        assert_eq!(table.fingerprint(), table.clone().fingerprint());
    }
    for action in &declaration.actions {
        let table = &declaration.tables[action.table];
        let row = Row(vec![Cell::Text("x\r\nHost: y".into()); table.columns.len()]);
        for etag in [None, Some("\"1\"".to_owned()), Some("a\r\nb: c".to_owned())] {
            if let Ok(request) = write_request(&declaration, action, &Found { row: row.clone(), etag }) {
                is_sound(&declaration, &request);
            }
        }
    }
    for event in &declaration.events {
        let row = Row(vec![Cell::Null; declaration.tables[event.table].columns.len()]);
        let _holds = event.when.holds(None, &row, NOW) || event.when.holds(Some(&row), &row, NOW);
        drop(event.card.title.fill(&row));
    }
}

/// One line of request and headers each, below the service's prefix.
fn is_sound(declaration: &Declaration, request: &Request) {
    let target = &request.target;
    assert!(target.starts_with('/') && target.starts_with(&declaration.service.prefix), "{target:?}");
    assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{target:?}");
    let path = target.split('?').next().unwrap_or_default();
    assert!(!path.split('/').any(|segment| segment == ".." || segment == "."), "{target:?} climbs");
    for (name, value) in &request.headers {
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':'), "{name:?}");
        assert!(!value.chars().any(char::is_control), "{name}: {value:?}");
    }
    assert_eq!(request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count(), 1);
}

/// A system's answers, one a line (`status retry-after body`), to the fetch of each table: it ends, waits no longer than
/// allowed, and believes only whole rows.
pub fn paging(data: &[u8]) {
    let declaration = fixtures::declaration();
    for table in &declaration.tables {
        let mut fetch = Fetch::new(declaration, table, NOW);
        let Ok(Step::Send(first)) = fetch.step(None) else { panic!() };
        is_sound(declaration, &first);
        let mut waits = 0;
        for line in lines(data) {
            match fetch.step(Some(&response(line))) {
                Err(_) => break,
                Ok(Step::Send(request)) => is_sound(declaration, &request),
                Ok(Step::Wait { seconds, then }) => {
                    waits += 1;
                    assert!((1..=MAX_WAIT).contains(&seconds) && waits <= 5, "it waits for ever");
                    is_sound(declaration, &then);
                }
                Ok(Step::Rows { rows, next }) => {
                    accepted();
                    waits = 0;
                    rows.iter().for_each(|(key, row)| is_whole(key, row, table.columns.len()));
                    assert_eq!(next.is_some(), rows.len() >= table.paging.size as usize);
                    let Some(next) = next else { break };
                    is_sound(declaration, &next);
                }
            }
        }
    }
}

fn is_whole(key: &str, row: &Row, columns: usize) {
    assert!((1..=MAX_KEY).contains(&key.len()), "{key:?}");
    assert_eq!(row.0.len(), columns);
    assert!(row.0.iter().all(|cell| !matches!(cell, Cell::Text(text) if text.len() > MAX_TEXT)));
    let kept: Row = serde_json::from_slice(&serde_json::to_vec(row).unwrap()).unwrap();
    assert_eq!(kept.hash(), row.hash(), "a row is another one after it was stored");
}

fn response(line: &[u8]) -> Response {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mut part = || parts.next().unwrap_or_default();
    let status = text(part()).parse().unwrap_or(200);
    let headers = vec![("Retry-After".to_owned(), text(part())), ("ETag".to_owned(), "\"5\"".to_owned())];
    Response { status, headers, body: part().to_vec() }
}

/// A system's answer about one row, and the write that follows: only about that row.
pub fn detail(data: &[u8]) {
    let declaration = fixtures::declaration();
    let (_, table) = declaration.table("issue").unwrap();
    let row = Row([vec![Cell::Integer(7)], vec![Cell::Null; table.columns.len() - 1]].concat());
    is_sound(declaration, &detail_request(declaration, table, &row).unwrap());
    let Ok(Some(found)) = read_detail(table, &row, &response(data)) else { return };
    accepted();
    assert_eq!(found.row.cell(table.key).key(), row.cell(table.key).key(), "another row was taken");
    is_whole("7", &found.row, table.columns.len());
    for action in &declaration.actions {
        let request = write_request(declaration, action, &found).unwrap();
        is_sound(declaration, &request);
        assert!(request.target.ends_with("/7"), "{} writes another row", request.target);
        assert!(request.headers.iter().any(|(name, value)| name == "If-Match" && value == "\"5\""));
    }
}
