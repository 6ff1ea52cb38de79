//! The declaration as it is written; `check` turns it into a [`crate::Declaration`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{ColumnType, Comparator, Me, Method, Priority, Verb};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDeclaration {
    pub(crate) schema: u32,
    pub(crate) service: RawService,
    #[serde(default)]
    pub(crate) schedule: RawSchedule,
    #[serde(rename = "table")]
    pub(crate) tables: Vec<RawTable>,
    #[serde(rename = "event", default)]
    pub(crate) events: Vec<RawEvent>,
    #[serde(rename = "action", default)]
    pub(crate) actions: Vec<RawAction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawService {
    pub(crate) resource: sluice_node_identity::ResourceId,
    pub(crate) url: String,
    /// Only `basic` so far; said aloud so that a later kind cannot be mistaken for it.
    #[serde(rename = "auth")]
    pub(crate) _auth: RawAuth,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawAuth {
    Basic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSchedule {
    pub(crate) full_minutes: u32,
}

impl Default for RawSchedule {
    fn default() -> Self {
        Self { full_minutes: 24 * 60 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTable {
    pub(crate) name: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) items: String,
    pub(crate) paging: RawPaging,
    pub(crate) window: Option<RawWindow>,
    pub(crate) columns: Vec<RawColumn>,
    pub(crate) viewer: Option<RawPerson>,
    pub(crate) detail: Option<RawDetail>,
    #[serde(default = "default_max_deleted")]
    pub(crate) max_deleted_percent: u8,
}

const fn default_max_deleted() -> u8 {
    50
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPaging {
    pub(crate) size: u32,
    pub(crate) size_parameter: String,
    pub(crate) index_parameter: String,
    #[serde(default = "default_first")]
    pub(crate) first_index: u32,
    #[serde(default = "default_max_pages")]
    pub(crate) max_pages: u32,
}

const fn default_first() -> u32 {
    1
}

const fn default_max_pages() -> u32 {
    1_000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWindow {
    pub(crate) column: String,
    pub(crate) parameter: String,
    pub(crate) value: String,
    #[serde(default = "default_days")]
    pub(crate) days: u32,
}

const fn default_days() -> u32 {
    90
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawColumn {
    pub(crate) name: String,
    pub(crate) path: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: ColumnType,
    #[serde(default)]
    pub(crate) key: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPerson {
    pub(crate) column: String,
    pub(crate) references: Option<RawReference>,
    pub(crate) is: Me,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReference {
    pub(crate) table: String,
    pub(crate) column: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDetail {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) item: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvent {
    pub(crate) name: String,
    pub(crate) table: String,
    pub(crate) on: Vec<crate::ChangeKind>,
    #[serde(default)]
    pub(crate) when: RawCondition,
    pub(crate) audience: RawPerson,
    pub(crate) card: RawCard,
    pub(crate) close: Option<RawCondition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCard {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) body: String,
    #[serde(default)]
    pub(crate) priority: Priority,
    #[serde(default)]
    pub(crate) actions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAction {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) table: String,
    pub(crate) check: RawCondition,
    pub(crate) write: RawWrite,
    pub(crate) expect: RawCondition,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWrite {
    pub(crate) method: Method,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) if_match: bool,
    #[serde(default)]
    pub(crate) body: BTreeMap<String, RawValue>,
}

/// A scalar; text may hold placeholders where a template is allowed.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawValue {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

/// Exactly one of `all`, `any` or a term; an empty table always holds.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCondition {
    pub(crate) all: Option<Vec<RawCondition>>,
    pub(crate) any: Option<Vec<RawCondition>>,
    pub(crate) column: Option<String>,
    pub(crate) verb: Option<Verb>,
    pub(crate) compare: Option<Comparator>,
    pub(crate) value: Option<RawValue>,
    #[serde(default)]
    pub(crate) null: bool,
    pub(crate) today_minus: Option<u32>,
    #[serde(default)]
    pub(crate) now: bool,
}
