//! How to talk to one system of record, and what changed there: declaration, fetching as data, row diff.
//!
//! Pure: requests and responses are values, time is passed in. A shell sends the requests and stores the rows.

mod cell;
mod check;
mod condition;
mod declaration;
mod detail;
mod diff;
mod fetch;
mod http;
mod raw;
mod template;

pub use cell::{BadCell, Cell, ColumnType, Key, MAX_KEY, MAX_TEXT, Row, RowHash};
pub use condition::{Comparator, Condition, Operand, Term, Verb};
pub use declaration::{
    Action, Audience, BadDeclaration, BodyValue, CardTemplate, Column, Declaration, Detail, Event, Me, Paging,
    Priority, Service, Table, Via, Window,
};
pub use detail::{DetailError, Found, detail_request, read_detail, write_request};
pub use diff::{Change, ChangeKind, Delta, MassDeletion, Merge, Tally};
pub use fetch::{Fetch, FetchError, MAX_WAIT, Step};
pub use http::{Method, Request, Response};
pub use template::{BadTemplate, Template};
