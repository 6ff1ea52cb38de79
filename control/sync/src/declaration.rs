//! A checked declaration: every name resolved, every bound kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_node_identity::ResourceId;
use thiserror::Error;

use crate::{ChangeKind, ColumnType, Condition, Method, Template, raw::RawDeclaration};

/// Why a declaration was refused: where, and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: {problem}")]
pub struct BadDeclaration {
    /// e.g. `table issue`.
    pub place: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// How to talk to one system of record.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Where it is.
    pub service: Service,
    /// Seconds between full syncs.
    pub full_every: u64,
    /// What is fetched.
    pub tables: Vec<Table>,
    /// What makes cards.
    pub events: Vec<Event>,
    /// What users can do.
    pub actions: Vec<Action>,
}

/// Where a system of record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How it is reached.
    pub resource: ResourceId,
    /// `Host` header: the host (and port) of its public URL.
    pub host: String,
    /// Path prefix, starting and ending with `/`.
    pub prefix: String,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Scheme and host of the public URL; stands for `{origin}` in headers.
    pub origin: String,
}

/// One table: one endpoint that lists all rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Path below the prefix.
    pub path: String,
    /// Fixed query parameters.
    pub query: Vec<(String, String)>,
    /// Slash path to the array of rows.
    pub items: String,
    /// How pages are asked for.
    pub paging: Paging,
    /// How far back it looks.
    pub window: Option<Window>,
    /// Columns.
    pub columns: Vec<Column>,
    /// The primary key's column.
    pub key: usize,
    /// Who may see a row; `None`: nobody.
    pub viewer: Option<Audience>,
    /// How one row is fetched.
    pub detail: Option<Detail>,
    /// A full sync that would delete more than this share of the rows is not believed.
    pub max_deleted_percent: u8,
}

/// Pages by number; a page shorter than `size` is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Rows on a page.
    pub size: u32,
    /// Query parameter of the size.
    pub size_parameter: String,
    /// Query parameter of the number.
    pub index_parameter: String,
    /// Number of the first page.
    pub first_index: u32,
    /// More pages than this are an error, never a shorter table.
    pub max_pages: u32,
}

/// Only rows touched lately are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Text column starting with `YYYY-MM-DD`, by which rows leave the window without an event.
    pub column: usize,
    /// Query parameter.
    pub parameter: String,
    /// Its value; `{date}` is the first day.
    pub value: String,
    /// How many days back.
    pub days: u32,
}

/// One attribute that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Slash path within the row.
    pub path: String,
    /// Type.
    pub kind: ColumnType,
}

/// What of a user is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Me {
    /// Mail address; ASCII case does not matter.
    MyEmail,
    /// Login name, exactly.
    MyLogin,
}

/// Users found from a row: those whose address or login stands in a column, here or one foreign key away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// Column of the row.
    pub column: usize,
    /// Where that column's value leads.
    pub via: Option<Via>,
    /// What of the user is compared.
    pub is: Me,
}

/// One foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// Table whose primary key is meant.
    pub table: usize,
    /// Column there.
    pub column: usize,
}

/// How one row is fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// Path below the prefix.
    pub path: Template,
    /// Fixed query parameters.
    pub query: Vec<(String, String)>,
    /// Slash path to the row.
    pub item: String,
}

/// Rank of a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The usual.
    #[default]
    Normal,
    /// Before all normal ones.
    High,
}

/// What makes a card of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Name, stable: part of card ids.
    pub name: String,
    /// Table.
    pub table: usize,
    /// Which kinds of change.
    pub on: Vec<ChangeKind>,
    /// Which changes of those.
    pub when: Condition,
    /// Who gets a card, if the viewer rule lets him see the row.
    pub audience: Audience,
    /// What it says.
    pub card: CardTemplate,
    /// When it has had its day.
    pub close: Option<Condition>,
}

/// What a card says.
#[derive(Clone, Debug, PartialEq)]
pub struct CardTemplate {
    /// Title.
    pub title: Template,
    /// Body.
    pub body: Template,
    /// Rank.
    pub priority: Priority,
    /// Actions by number.
    pub actions: Vec<usize>,
}

/// What a user can do to a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Name.
    pub name: String,
    /// For people.
    pub label: String,
    /// Table.
    pub table: usize,
    /// Must hold of the row as fetched anew, or nothing is written.
    pub check: Condition,
    /// Method of the write.
    pub method: Method,
    /// Path below the prefix.
    pub path: Template,
    /// Headers of the write.
    pub headers: Vec<(String, String)>,
    /// Whether the fetched row's `ETag` goes along as `If-Match`.
    pub if_match: bool,
    /// JSON object; text values are templates.
    pub body: Vec<(String, BodyValue)>,
    /// Must hold of the row as read back.
    pub expect: Condition,
}

/// A value in an action's body.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyValue {
    /// As it is.
    Fixed(Value),
    /// Filled in from the row.
    Text(Template),
}

impl Declaration {
    /// Longest declaration, in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;
    /// Most tables.
    pub const MAX_TABLES: usize = 100;
    /// Most columns of a table.
    pub const MAX_COLUMNS: usize = 300;
    /// Most events, and most actions.
    pub const MAX_RULES: usize = 200;
    /// Most different columns on a card (cards should say little).
    pub const MAX_CARD_COLUMNS: usize = 4;

    /// Reads and checks a declaration (TOML).
    ///
    /// # Errors
    /// [`BadDeclaration`] says where and what to do.
    pub fn parse(text: &str) -> Result<Self, BadDeclaration> {
        let bad = |problem: String| BadDeclaration { place: "declaration".into(), problem };
        if text.len() > Self::MAX_BYTES {
            return Err(bad(format!("it is longer than {} bytes; leave out what is not needed", Self::MAX_BYTES)));
        }
        let raw: RawDeclaration = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        crate::check::check(raw)
    }

    /// A table's number by name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<(usize, &Table)> {
        self.tables.iter().enumerate().find(|(_, table)| table.name == name)
    }

    /// An event by name.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.name == name)
    }
}

impl Table {
    /// Changes whenever rows fetched before and after cannot be compared: then the next sync is a baseline again.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(&self.path);
        part(&self.items);
        for (name, value) in &self.query {
            part(name);
            part(value);
        }
        if let Some(window) = &self.window {
            part(&window.parameter);
            part(&window.days.to_string());
        }
        for column in &self.columns {
            part(&column.name);
            part(&column.path);
            part(&format!("{:?}", column.kind));
        }
        part(&self.key.to_string());
        hash.finalize().into()
    }

    /// A row as a JSON object with the columns' names.
    #[must_use]
    pub fn to_json(&self, row: &crate::Row) -> Value {
        let cells = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| (column.name.clone(), serde_json::to_value(row.cell(at)).unwrap_or(Value::Null)));
        Value::Object(cells.collect())
    }
}
