//! Fetching a whole table: a machine that gives requests and takes responses.

use serde_json::Value;
use sluice_node_identity::UnixTime;
use thiserror::Error;

use crate::{
    BadCell, Cell, Declaration, Key, Method, Request, Response, Row, Table, cell::follow, condition, template,
};

/// Longest wait a system of record can impose, in seconds; it asks for more: the sync fails and comes again.
pub const MAX_WAIT: u32 = 60;

/// How often one page is asked for again when the system says "not now".
const MAX_AGAIN: u8 = 5;

/// Why a table could not be fetched whole. Nothing of it is then believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FetchError {
    /// 401 or 403.
    #[error("the system of record refused the service account (status {0}); store its login again")]
    Unauthorized(u16),
    /// Another status.
    #[error("the system of record answered with status {0}")]
    Status(u16),
    /// It keeps saying "not now", or asks for a longer wait than allowed.
    #[error("the system of record is busy (status {0}); the next sync tries again")]
    Busy(u16),
    /// The body is not JSON.
    #[error("the answer is not JSON; check the table's path")]
    NotJson,
    /// No array at `items`.
    #[error("there is no list of rows at \"{0}\" in the answer; check the table's items")]
    NoItems(String),
    /// More pages than `max_pages`.
    #[error("the table has more than {0} pages; raise paging.max_pages or fetch less")]
    TooManyPages(u32),
    /// The same page came twice.
    #[error("the same page came again; check paging.index_parameter")]
    Repeats,
    /// A row without its key.
    #[error("a row has no key in column \"{0}\"")]
    NoKey(String),
    /// A cell of another type.
    #[error("column \"{column}\" of row \"{key}\" cannot be read: {bad}")]
    Cell {
        /// Which column.
        column: String,
        /// Which row.
        key: Key,
        /// Why.
        bad: BadCell,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send this and give the response to [`Fetch::step`].
    Send(Request),
    /// Wait so many seconds first.
    Wait {
        /// 1 to [`MAX_WAIT`].
        seconds: u32,
        /// Then send this.
        then: Request,
    },
    /// Rows of a page; `next` is `None` after the last.
    Rows {
        /// With their keys.
        rows: Vec<(Key, Row)>,
        /// Send this for more.
        next: Option<Request>,
    },
}

/// The fetch of one table.
#[derive(Debug)]
pub struct Fetch<'d> {
    declaration: &'d Declaration,
    table: &'d Table,
    since: Option<String>,
    page: u32,
    again: u8,
    last: Option<Vec<Key>>,
}

impl<'d> Fetch<'d> {
    /// Fetches `table`, whose window (if any) ends at `now`.
    #[must_use]
    pub fn new(declaration: &'d Declaration, table: &'d Table, now: UnixTime) -> Self {
        let since = table.window.as_ref().map(|window| condition::date(now, window.days));
        Self { declaration, table, since, page: 0, again: 0, last: None }
    }

    /// `None` to begin, then each response in turn.
    ///
    /// # Errors
    /// [`FetchError`]: the table is not known whole, so nothing may be concluded from it.
    pub fn step(&mut self, response: Option<&Response>) -> Result<Step, FetchError> {
        let Some(response) = response else { return Ok(Step::Send(self.request())) };
        match response.status {
            200 => {}
            401 | 403 => return Err(FetchError::Unauthorized(response.status)),
            status => return self.not_now(response).ok_or(FetchError::Status(status))?,
        }
        self.again = 0;
        let rows = self.rows(&response.body)?;
        let keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
        if !keys.is_empty() && self.last.as_ref() == Some(&keys) {
            return Err(FetchError::Repeats);
        }
        let full = keys.len() >= usize::try_from(self.table.paging.size).unwrap_or(usize::MAX);
        self.last = Some(keys);
        self.page += 1;
        if full && self.page >= self.table.paging.max_pages {
            return Err(FetchError::TooManyPages(self.table.paging.max_pages));
        }
        let next = full.then(|| self.request());
        Ok(Step::Rows { rows, next })
    }

    /// First day of the window: rows that are gone and older left it, they were not deleted.
    #[must_use]
    pub fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    fn not_now(&mut self, response: &Response) -> Option<Result<Step, FetchError>> {
        let seconds = response.retry_after()?.max(1);
        self.again += 1;
        if self.again > MAX_AGAIN || seconds > MAX_WAIT {
            return Some(Err(FetchError::Busy(response.status)));
        }
        Some(Ok(Step::Wait { seconds, then: self.request() }))
    }

    fn request(&self) -> Request {
        let paging = &self.table.paging;
        let mut query = self.table.query.clone();
        query.push((paging.size_parameter.clone(), paging.size.to_string()));
        query.push((paging.index_parameter.clone(), paging.first_index.saturating_add(self.page).to_string()));
        if let (Some(window), Some(since)) = (&self.table.window, &self.since) {
            query.push((window.parameter.clone(), window.value.replace("{date}", since)));
        }
        get(self.declaration, &self.table.path, &query)
    }

    fn rows(&self, body: &[u8]) -> Result<Vec<(Key, Row)>, FetchError> {
        let value: Value = serde_json::from_slice(body).map_err(|_| FetchError::NotJson)?;
        let Some(Value::Array(items)) = follow(&value, &self.table.items) else {
            return Err(FetchError::NoItems(self.table.items.clone()));
        };
        items.iter().map(|item| read_row(self.table, item, None)).collect()
    }
}

/// A GET below the service's prefix.
pub(crate) fn get(declaration: &Declaration, path: &str, query: &[(String, String)]) -> Request {
    let query: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", template::encode(name), template::encode(value))).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let target = format!("{}{path}{mark}{}", declaration.service.prefix, query.join("&"));
    Request { method: Method::Get, target, headers: headers(declaration, &[]), body: None }
}

/// `Host`, the service's own headers, then `more`.
pub(crate) fn headers(declaration: &Declaration, more: &[(String, String)]) -> Vec<(String, String)> {
    let service = &declaration.service;
    let first = [("Host".to_owned(), service.host.clone()), ("Accept".to_owned(), "application/json".to_owned())];
    first.into_iter().chain(service.headers.iter().cloned()).chain(more.iter().cloned()).collect()
}

/// Reads a row; `known` is its key when the request named it and the answer need not repeat it.
pub(crate) fn read_row(table: &Table, item: &Value, known: Option<&Cell>) -> Result<(Key, Row), FetchError> {
    let key_column = table.columns.get(table.key);
    let key_name = || key_column.map(|column| column.name.clone()).unwrap_or_default();
    let no_key = || FetchError::NoKey(key_name());
    let own = key_column.map(|column| Cell::read(follow(item, &column.path), column.kind));
    let key_cell = match own {
        Some(Ok(cell)) if !cell.is_null() => cell,
        Some(Ok(_)) => known.cloned().ok_or_else(no_key)?,
        _ => return Err(no_key()),
    };
    let key = key_cell.key().ok_or_else(no_key)?;
    if known.and_then(Cell::key).is_some_and(|known| known != key) {
        return Err(no_key());
    }
    let mut cells = Vec::with_capacity(table.columns.len());
    for (at, column) in table.columns.iter().enumerate() {
        if at == table.key {
            cells.push(key_cell.clone());
            continue;
        }
        let cell = Cell::read(follow(item, &column.path), column.kind).map_err(|bad| FetchError::Cell {
            column: column.name.clone(),
            key: key.clone(),
            bad,
        })?;
        cells.push(cell);
    }
    Ok((key, Row(cells)))
}
