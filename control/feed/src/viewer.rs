//! Who may see a row. Without a rule nobody may; without a match nobody may.

use sluice_control_sync::{Audience, Cell, Declaration, Key, Row};

use crate::Person;

/// Where foreign rows are looked up.
pub trait Lookup {
    /// The lookup itself failed.
    type Error;

    /// A cell of the row with that key; [`Cell::Null`] when there is no such row.
    ///
    /// # Errors
    /// When it cannot be known.
    fn cell(&self, table: usize, key: &Key, column: usize) -> Result<Cell, Self::Error>;
}

/// A row that one person may see. Only [`see`] makes one, so that what takes it cannot leak.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'r> {
    row: &'r Row,
    table: usize,
}

impl<'r> Visible<'r> {
    /// The row.
    #[must_use]
    pub const fn row(&self) -> &'r Row {
        self.row
    }

    /// Its table.
    #[must_use]
    pub const fn table(&self) -> usize {
        self.table
    }
}

/// The row, if `person` may see it.
///
/// # Errors
/// Those of the lookup.
pub fn see<'r, L: Lookup>(
    declaration: &Declaration,
    table: usize,
    row: &'r Row,
    lookup: &L,
    person: &Person,
) -> Result<Option<Visible<'r>>, L::Error> {
    let Some(rule) = declaration.tables.get(table).and_then(|table| table.viewer.as_ref()) else { return Ok(None) };
    let value = value(rule, row, lookup)?;
    Ok(value.is_some_and(|value| person.is(rule.is, &value)).then_some(Visible { row, table }))
}

/// The address or login to which an audience leads from a row.
pub(crate) fn value<L: Lookup>(rule: &Audience, row: &Row, lookup: &L) -> Result<Option<String>, L::Error> {
    let own = row.cell(rule.column);
    let cell = match (&rule.via, own.key()) {
        (None, _) => own.clone(),
        (Some(_), None) => Cell::Null,
        (Some(via), Some(key)) => lookup.cell(via.table, &key, via.column)?,
    };
    Ok(match cell {
        Cell::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    })
}
