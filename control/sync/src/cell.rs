//! Cells and rows: what the cache holds of a system of record.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest text kept of one cell, in bytes; the rest is cut off at a character boundary.
pub const MAX_TEXT: usize = 16 * 1024;

/// Longest primary key, in bytes.
pub const MAX_KEY: usize = 512;

/// Text form of a primary key. Keys are compared byte by byte.
pub type Key = String;

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Text; numbers and booleans are taken as their JSON text.
    Text,
    /// 64-bit whole number, also when it comes as text.
    Integer,
    /// Floating-point number.
    Real,
    /// Truth value.
    Boolean,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// Absent.
    Null,
    /// Truth value.
    Bool(bool),
    /// Whole number.
    Integer(i64),
    /// Floating-point number, finite.
    Real(f64),
    /// Text.
    Text(String),
}

/// A value does not fit its column's type.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it is not a {0:?}; correct the column's type or path in the declaration")]
pub struct BadCell(pub ColumnType);

impl Cell {
    /// Reads a JSON value as `kind`. Absent and `null` are [`Cell::Null`].
    ///
    /// # Errors
    /// [`BadCell`] when the value is of another type.
    pub fn read(value: Option<&Value>, kind: ColumnType) -> Result<Self, BadCell> {
        let Some(value) = value else { return Ok(Self::Null) };
        let cell = match (kind, value) {
            (_, Value::Null) => Some(Self::Null),
            (ColumnType::Text, Value::String(text)) => Some(Self::text(text)),
            (ColumnType::Text, Value::Number(number)) => Some(Self::Text(number.to_string())),
            (ColumnType::Text, Value::Bool(truth)) => Some(Self::Text(truth.to_string())),
            (ColumnType::Integer, Value::Number(number)) => number.as_i64().map(Self::Integer),
            (ColumnType::Integer, Value::String(text)) => text.parse().ok().map(Self::Integer),
            (ColumnType::Real, Value::Number(number)) => number.as_f64().map(Self::Real),
            (ColumnType::Boolean, Value::Bool(truth)) => Some(Self::Bool(*truth)),
            _ => None,
        };
        cell.ok_or(BadCell(kind))
    }

    /// A text cell of at most [`MAX_TEXT`] bytes.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned())
    }

    /// Whether it is [`Cell::Null`].
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// As the key of a row: a number or a text of 1 to [`MAX_KEY`] bytes.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Integer(number) => Some(number.to_string()),
            Self::Text(text) if !text.is_empty() && text.len() <= MAX_KEY => Some(text.clone()),
            _ => None,
        }
    }

    /// As people and templates see it; null is empty.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(truth) => truth.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    fn digest_into(&self, hash: &mut Sha256) {
        let (tag, bytes): (u8, Vec<u8>) = match self {
            Self::Null => (0, Vec::new()),
            Self::Bool(truth) => (1, vec![u8::from(*truth)]),
            Self::Integer(number) => (2, number.to_be_bytes().to_vec()),
            Self::Real(number) => (3, number.to_bits().to_be_bytes().to_vec()),
            Self::Text(text) => (4, text.clone().into_bytes()),
        };
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
    }
}

/// First 128 bits of the SHA-256 of a row's cells; equal hashes mean equal rows.
pub type RowHash = [u8; 16];

/// Cells in the order of the table's columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Row(pub Vec<Cell>);

impl Row {
    /// The cell of a column; a row that is too short has nulls there.
    #[must_use]
    pub fn cell(&self, column: usize) -> &Cell {
        self.0.get(column).unwrap_or(&Cell::Null)
    }

    /// Tells rows apart.
    #[must_use]
    pub fn hash(&self) -> RowHash {
        let mut hash = Sha256::new();
        for cell in &self.0 {
            cell.digest_into(&mut hash);
        }
        let mut short = RowHash::default();
        short.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        short
    }
}

/// Follows a slash path (`data/collection`); an empty path is the value itself. Numbers index arrays.
pub(crate) fn follow<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('/').filter(|part| !part.is_empty()).try_fold(value, |at, part| match at {
        Value::Object(map) => map.get(part),
        Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_by_type() {
        assert_eq!(Cell::read(Some(&json!("17")), ColumnType::Integer), Ok(Cell::Integer(17)));
        assert_eq!(Cell::read(Some(&json!(17)), ColumnType::Text), Ok(Cell::Text("17".into())));
        assert_eq!(Cell::read(Some(&json!("x")), ColumnType::Integer), Err(BadCell(ColumnType::Integer)));
        assert_eq!(Cell::read(Some(&json!([])), ColumnType::Text), Err(BadCell(ColumnType::Text)));
        assert_eq!(Cell::read(None, ColumnType::Boolean), Ok(Cell::Null));
    }

    #[test]
    fn paths_lead_into_objects_and_arrays() {
        let value = json!({"data": {"collection": [{"id": 4}]}});
        assert_eq!(follow(&value, "data/collection/0/id"), Some(&json!(4)));
        assert_eq!(follow(&value, "data/none"), None);
        assert_eq!(follow(&value, "data/collection/0/id/deeper"), None);
    }

    pub(crate) fn any_cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            Just(Cell::Null),
            any::<bool>().prop_map(Cell::Bool),
            any::<i64>().prop_map(Cell::Integer),
            (-1e9..1e9_f64).prop_map(Cell::Real),
            ".{0,12}".prop_map(Cell::Text),
        ]
    }

    proptest! {
        #[test]
        fn a_stored_row_comes_back_with_its_hash(cells in prop::collection::vec(any_cell(), 0..6)) {
            let row = Row(cells);
            let back: Row = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
            prop_assert_eq!(back.hash(), row.hash());
            prop_assert_eq!(back, row);
        }

        #[test]
        fn different_rows_have_different_hashes(a in prop::collection::vec(any_cell(), 0..4), b in prop::collection::vec(any_cell(), 0..4)) {
            prop_assert_eq!(a == b, Row(a).hash() == Row(b).hash());
        }

        #[test]
        fn long_text_is_cut_at_a_character(text in "\\PC{0,40}") {
            let long = text.repeat(MAX_TEXT / 8);
            let Cell::Text(kept) = Cell::text(&long) else { panic!() };
            prop_assert!(kept.len() <= MAX_TEXT && long.starts_with(&kept));
        }
    }
}
