//! One row: fetching it, and writing to it.

use serde_json::Value;
use thiserror::Error;

use crate::{
    Action, BadTemplate, Declaration, FetchError, Request, Response, Row, Table,
    cell::follow,
    declaration::BodyValue,
    fetch::{get, headers, read_row},
};

/// Why a row could not be fetched or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DetailError {
    /// The table declares no detail.
    #[error("the table \"{0}\" declares no detail")]
    Undeclared(String),
    /// The row's key cannot stand in a path.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// The answer cannot be used.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The `ETag` is missing or cannot be sent back.
    #[error("the system of record gave no usable ETag, without which a change in between could be overwritten")]
    NoEtag,
}

/// A row as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The row.
    pub row: Row,
    /// Its `ETag`, for `If-Match`.
    pub etag: Option<String>,
}

/// Asks for the row with the key of `row`.
///
/// # Errors
/// [`DetailError`] when the table declares no detail or the key cannot stand in a path.
pub fn detail_request(declaration: &Declaration, table: &Table, row: &Row) -> Result<Request, DetailError> {
    let detail = table.detail.as_ref().ok_or_else(|| DetailError::Undeclared(table.name.clone()))?;
    Ok(get(declaration, &detail.path.fill_path(row)?, &detail.query))
}

/// Reads the answer to [`detail_request`] for the row with the key of `row`; `None`: it is gone.
///
/// # Errors
/// [`DetailError`] when the answer cannot be used, or is about another row.
pub fn read_detail(table: &Table, row: &Row, response: &Response) -> Result<Option<Found>, DetailError> {
    let detail = table.detail.as_ref().ok_or_else(|| DetailError::Undeclared(table.name.clone()))?;
    match response.status {
        200 => {}
        404 | 410 => return Ok(None),
        401 | 403 => return Err(FetchError::Unauthorized(response.status).into()),
        status if response.retry_after().is_some() => return Err(FetchError::Busy(status).into()),
        status => return Err(FetchError::Status(status).into()),
    }
    let value: Value = serde_json::from_slice(&response.body).map_err(|_| FetchError::NotJson)?;
    let item = follow(&value, &detail.item).ok_or_else(|| FetchError::NoItems(detail.item.clone()))?;
    let (_, fresh) = read_row(table, item, Some(row.cell(table.key)))?;
    Ok(Some(Found { row: fresh, etag: response.header("etag").map(str::to_owned) }))
}

/// The write of an action, given the row as just fetched.
///
/// # Errors
/// [`DetailError`] when the row's values cannot stand in the path, or an `ETag` is needed and there is none.
pub fn write_request(declaration: &Declaration, action: &Action, found: &Found) -> Result<Request, DetailError> {
    let mut more = action.headers.clone();
    if action.if_match {
        let etag = found.etag.as_ref().filter(|etag| !etag.is_empty() && etag.bytes().all(|b| b.is_ascii_graphic()));
        more.push(("If-Match".to_owned(), etag.ok_or(DetailError::NoEtag)?.clone()));
    }
    more.push(("Content-Type".to_owned(), "application/json".to_owned()));
    let body: serde_json::Map<String, Value> = action
        .body
        .iter()
        .map(|(name, value)| {
            let value = match value {
                BodyValue::Fixed(value) => value.clone(),
                BodyValue::Text(template) => Value::String(template.fill(&found.row)),
            };
            (name.clone(), value)
        })
        .collect();
    Ok(Request {
        method: action.method,
        target: format!("{}{}", declaration.service.prefix, action.path.fill_path(&found.row)?),
        headers: headers(declaration, &more),
        body: Some(Value::Object(body).to_string().into_bytes()),
    })
}
