//! Text with `{column}` placeholders.

use thiserror::Error;

use crate::{Row, declaration::Column};

/// Why a text with placeholders was refused, or could not be filled in.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadTemplate {
    /// A brace is not closed, or closed twice.
    #[error("\"{0}\" has an unpaired brace; placeholders look like {{column}}")]
    Brace(String),
    /// No such column.
    #[error("\"{template}\" names the column \"{column}\", which the table does not have")]
    Unknown {
        /// Whole text.
        template: String,
        /// What it names.
        column: String,
    },
    /// The row's value would change the meaning of the path.
    #[error("the row's value cannot stand in a path")]
    Path,
}

/// A checked text: literal parts and column numbers in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(usize),
}

impl Template {
    /// Reads `text`, whose placeholders name `columns`.
    pub(crate) fn parse(text: &str, columns: &[Column]) -> Result<Self, BadTemplate> {
        let brace = || BadTemplate::Brace(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(brace)?;
            if before.contains('}') || name.contains('{') {
                return Err(brace());
            }
            let column = columns
                .iter()
                .position(|column| column.name == name)
                .ok_or_else(|| BadTemplate::Unknown { template: text.to_owned(), column: name.to_owned() })?;
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Column(column));
            rest = behind;
        }
        if rest.contains('}') {
            return Err(brace());
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Ok(Self { parts })
    }

    /// Columns it shows, in order, with repeats.
    pub fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(column) => Some(*column),
            Part::Text(_) => None,
        })
    }

    /// The text for a row.
    #[must_use]
    pub fn fill(&self, row: &Row) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Column(column) => row.cell(*column).display(),
            })
            .collect()
    }

    /// The path for a row; values are percent-encoded and cannot climb out of their place.
    ///
    /// # Errors
    /// [`BadTemplate::Path`] when a value is empty, or makes a segment `.` or `..`.
    pub fn fill_path(&self, row: &Row) -> Result<String, BadTemplate> {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Column(column) => {
                    let value = row.cell(*column).display();
                    if value.is_empty() {
                        return Err(BadTemplate::Path);
                    }
                    path.push_str(&encode(&value));
                }
            }
        }
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(BadTemplate::Path);
        }
        Ok(path)
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 §2.3.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::{Cell, ColumnType};

    fn columns() -> Vec<Column> {
        vec![Column { name: "id".into(), path: "id".into(), kind: ColumnType::Text }]
    }

    fn row(text: &str) -> Row {
        Row(vec![Cell::Text(text.into())])
    }

    #[test]
    fn braces_and_names_are_checked() {
        for bad in ["{", "}", "a{id", "a}id", "{{id}}", "{nope}", "{id}}"] {
            assert!(Template::parse(bad, &columns()).is_err(), "{bad}");
        }
        assert_eq!(Template::parse("Issue {id}.", &columns()).unwrap().fill(&row("7")), "Issue 7.");
    }

    #[test]
    fn a_value_cannot_climb_out_of_its_path() {
        let path = Template::parse("issue/{id}", &columns()).unwrap();
        for bad in ["", ".", ".."] {
            assert_eq!(path.fill_path(&row(bad)), Err(BadTemplate::Path), "{bad:?}");
        }
        assert_eq!(path.fill_path(&row("../user?x#\r\n")).unwrap(), "issue/..%2Fuser%3Fx%23%0D%0A");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(template) = Template::parse(&text, &columns()) {
                prop_assert_eq!(template.fill(&row("{id}")), text);
            }
        }

        #[test]
        fn a_filled_path_keeps_its_shape(value in ".{0,20}") {
            let path = Template::parse("a/{id}/b", &columns()).unwrap();
            if let Ok(filled) = path.fill_path(&row(&value)) {
                prop_assert_eq!(filled.split('/').count(), 3);
                prop_assert!(filled.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\')));
            }
        }
    }
}
