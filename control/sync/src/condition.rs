//! Conditions over a change of a row: the closed set of verbs, comparators and values.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sluice_node_identity::UnixTime;

use crate::{Cell, Row};

/// How a term looks at a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// The comparison holds now and did not before.
    Becomes,
    /// The value is another than before. Takes no comparison.
    Changes,
    /// The comparison holds now.
    Is,
    /// The value is the same as before. Takes no comparison.
    NoChange,
}

/// How values are compared. Comparing different types, or null by order, is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparator {
    /// Equal; null equals null.
    Eq,
    /// Not equal.
    Ne,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Text in which `%` stands for any run of characters.
    Like,
}

/// What a cell is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A value.
    Value(Cell),
    /// The UTC date so many days ago, as `YYYY-MM-DD`.
    TodayMinus(u32),
    /// The UTC time, as `YYYY-MM-DDTHH:MM:SSZ`.
    Now,
}

/// One term.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Column number.
    pub column: usize,
    /// How it looks at the change.
    pub verb: Verb,
    /// How it compares, for [`Verb::Becomes`] and [`Verb::Is`].
    pub compare: Comparator,
    /// With what.
    pub operand: Operand,
}

/// A tree of terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All hold; none: true.
    All(Vec<Condition>),
    /// One holds; none: false.
    Any(Vec<Condition>),
    /// A term.
    Term(Term),
}

impl Condition {
    /// Whether it holds of a change. A row that is new was all null before.
    #[must_use]
    pub fn holds(&self, before: Option<&Row>, after: &Row, now: UnixTime) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(before, after, now)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(before, after, now)),
            Self::Term(term) => term.holds(before, after, now),
        }
    }

    /// Whether it holds of a row as it is.
    #[must_use]
    pub fn holds_of(&self, row: &Row, now: UnixTime) -> bool {
        self.holds(Some(row), row, now)
    }

    /// Whether it only asks how a row is, never how it changed.
    #[must_use]
    pub fn is_state(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_state),
            Self::Term(term) => term.verb == Verb::Is,
        }
    }
}

impl Term {
    fn holds(&self, before: Option<&Row>, after: &Row, now: UnixTime) -> bool {
        let was = before.map_or(&Cell::Null, |row| row.cell(self.column));
        let is = after.cell(self.column);
        match self.verb {
            Verb::Is => self.compares(is, now),
            Verb::Becomes => self.compares(is, now) && !(before.is_some() && self.compares(was, now)),
            Verb::Changes => is != was,
            Verb::NoChange => is == was,
        }
    }

    fn compares(&self, cell: &Cell, now: UnixTime) -> bool {
        let operand = match &self.operand {
            Operand::Value(value) => value.clone(),
            Operand::TodayMinus(days) => Cell::Text(date(now, *days)),
            Operand::Now => Cell::Text(timestamp(now)),
        };
        let order = order(cell, &operand);
        match self.compare {
            Comparator::Eq => order == Some(Ordering::Equal),
            Comparator::Ne => order != Some(Ordering::Equal),
            Comparator::Gt => order == Some(Ordering::Greater),
            Comparator::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)) && !cell.is_null(),
            Comparator::Lt => order == Some(Ordering::Less),
            Comparator::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)) && !cell.is_null(),
            Comparator::Like => match (cell, &operand) {
                (Cell::Text(text), Cell::Text(pattern)) => like(text, pattern),
                _ => false,
            },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "comparing a whole number with a fraction is inexact by nature")]
fn order(a: &Cell, b: &Cell) -> Option<Ordering> {
    match (a, b) {
        (Cell::Null, Cell::Null) => Some(Ordering::Equal),
        (Cell::Bool(a), Cell::Bool(b)) => Some(a.cmp(b)),
        (Cell::Integer(a), Cell::Integer(b)) => Some(a.cmp(b)),
        (Cell::Integer(a), Cell::Real(b)) => (*a as f64).partial_cmp(b),
        (Cell::Real(a), Cell::Integer(b)) => a.partial_cmp(&(*b as f64)),
        (Cell::Real(a), Cell::Real(b)) => a.partial_cmp(b),
        (Cell::Text(a), Cell::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Greedy left to right: the first piece is a prefix, the last a suffix, those between are found in turn.
fn like(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('%');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, behind)) = rest.split_once(piece) else { if piece.is_empty() { continue } else { return false } };
        rest = behind;
    }
    rest.ends_with(last)
}

/// UTC date `days` ago.
pub(crate) fn date(now: UnixTime, days: u32) -> String {
    timestamp(UnixTime(now.0.saturating_sub(u64::from(days) * 86_400))).chars().take(10).collect()
}

/// RFC 3339 in UTC, whole seconds; a time beyond the year 9999 is empty.
fn timestamp(at: UnixTime) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime(1_795_000_000);

    fn term(verb: Verb, compare: Comparator, value: Cell) -> Condition {
        Condition::Term(Term { column: 0, verb, compare, operand: Operand::Value(value) })
    }

    fn row(cell: Cell) -> Row {
        Row(vec![cell])
    }

    #[test]
    fn verbs_look_at_before_and_after() {
        let (a, b) = (row(Cell::Integer(1)), row(Cell::Integer(2)));
        let becomes = term(Verb::Becomes, Comparator::Eq, Cell::Integer(2));
        assert!(becomes.holds(Some(&a), &b, NOW));
        assert!(!becomes.holds(Some(&b), &b, NOW));
        assert!(becomes.holds(None, &b, NOW), "a new row becomes what it is");
        let changes = term(Verb::Changes, Comparator::Eq, Cell::Null);
        assert!(changes.holds(Some(&a), &b, NOW) && !changes.holds(Some(&a), &a, NOW));
        assert!(!changes.holds(None, &row(Cell::Null), NOW));
        assert!(term(Verb::NoChange, Comparator::Eq, Cell::Null).holds(Some(&a), &a, NOW));
        assert!(term(Verb::Becomes, Comparator::Eq, Cell::Null).holds(None, &row(Cell::Null), NOW));
    }

    #[test]
    fn null_is_only_equal_to_null() {
        let null = row(Cell::Null);
        assert!(term(Verb::Is, Comparator::Eq, Cell::Null).holds_of(&null, NOW));
        assert!(term(Verb::Is, Comparator::Ne, Cell::Integer(1)).holds_of(&null, NOW));
        for compare in [Comparator::Gt, Comparator::Ge, Comparator::Lt, Comparator::Le, Comparator::Like] {
            assert!(!term(Verb::Is, compare, Cell::Integer(0)).holds_of(&null, NOW));
            assert!(!term(Verb::Is, compare, Cell::Null).holds_of(&null, NOW));
        }
    }

    #[test]
    fn dates_are_computed_from_now() {
        assert_eq!(date(UnixTime(86_400 * 365), 1), "1970-12-31");
        let old = Condition::Term(Term {
            column: 0,
            verb: Verb::Is,
            compare: Comparator::Lt,
            operand: Operand::TodayMinus(7),
        });
        assert!(old.holds_of(&row(Cell::Text("2001-01-01.00:00:00".into())), NOW));
        assert!(!old.holds_of(&row(Cell::Text("2999-01-01".into())), NOW));
    }

    /// Reference: exponential, but obviously right.
    fn like_model(text: &[char], pattern: &[char]) -> bool {
        match (text, pattern) {
            (_, ['%', rest @ ..]) => (0..=text.len()).any(|at| like_model(&text[at..], rest)),
            ([t, text @ ..], [p, pattern @ ..]) => t == p && like_model(text, pattern),
            ([], []) => true,
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn like_agrees_with_its_model(text in "[ab]{0,8}", pattern in "[ab%]{0,6}") {
            let (t, p): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
            prop_assert_eq!(like(&text, &pattern), like_model(&t, &p));
        }

        #[test]
        fn becomes_is_now_and_not_before(before in 0..4_i64, after in 0..4_i64, bound in 0..4_i64) {
            let (b, a) = (row(Cell::Integer(before)), row(Cell::Integer(after)));
            let becomes = term(Verb::Becomes, Comparator::Ge, Cell::Integer(bound));
            prop_assert_eq!(becomes.holds(Some(&b), &a, NOW), after >= bound && before < bound);
        }
    }
}
