//! From the declaration as written to the checked one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Action, Audience, BadDeclaration, BadTemplate, CardTemplate, Cell, Column, ColumnType, Comparator, Condition,
    Declaration, Detail, Event, Operand, Paging, Service, Table, Template, Term, Verb, Via, Window,
    declaration::BodyValue,
    raw::{
        RawAction, RawColumn, RawCondition, RawDeclaration, RawEvent, RawPaging, RawPerson, RawService, RawTable,
        RawValue, RawWindow,
    },
};

/// The one schema this release reads.
const SCHEMA: u32 = 1;
/// Deepest nesting of a condition.
const MAX_DEPTH: usize = 8;

/// A problem whose place is added on the way up.
struct Problem(String);

type Checked<T> = Result<T, Problem>;

fn no<T>(problem: impl Into<String>) -> Checked<T> {
    Err(Problem(problem.into()))
}

impl From<BadTemplate> for Problem {
    fn from(bad: BadTemplate) -> Self {
        Self(bad.to_string())
    }
}

trait At<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T, BadDeclaration>;
}

impl<T> At<T> for Checked<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T, BadDeclaration> {
        self.map_err(|Problem(problem)| BadDeclaration { place: place(), problem })
    }
}

pub(crate) fn check(raw: RawDeclaration) -> Result<Declaration, BadDeclaration> {
    bounds(&raw).at(|| "declaration".into())?;
    let service = service(raw.service).at(|| "service".into())?;
    let names: Vec<(String, Vec<String>)> = raw
        .tables
        .iter()
        .map(|table| (table.name.clone(), table.columns.iter().map(|column| column.name.clone()).collect()))
        .collect();
    let mut tables = Vec::new();
    for table in raw.tables {
        let place = format!("table {}", table.name);
        tables.push(self::table(table, &names).at(|| place)?);
    }
    let mut actions = Vec::new();
    for action in raw.actions {
        let place = format!("action {}", action.name);
        actions.push(self::action(action, &tables, &service).at(|| place)?);
    }
    let mut events = Vec::new();
    for event in raw.events {
        let place = format!("event {}", event.name);
        events.push(self::event(event, &tables, &names, &actions).at(|| place)?);
    }
    Ok(Declaration { service, full_every: u64::from(raw.schedule.full_minutes) * 60, tables, events, actions })
}

fn bounds(raw: &RawDeclaration) -> Checked<()> {
    if raw.schema != SCHEMA {
        return no(format!("schema {} is not known to this release; write schema = {SCHEMA}", raw.schema));
    }
    if raw.tables.is_empty() || raw.tables.len() > Declaration::MAX_TABLES {
        return no(format!("a declaration has 1 to {} tables", Declaration::MAX_TABLES));
    }
    if raw.events.len() > Declaration::MAX_RULES || raw.actions.len() > Declaration::MAX_RULES {
        return no(format!("a declaration has at most {} events and as many actions", Declaration::MAX_RULES));
    }
    if raw.schedule.full_minutes == 0 {
        return no("full_minutes is at least 1");
    }
    distinct("table", raw.tables.iter().map(|table| &table.name))?;
    distinct("event", raw.events.iter().map(|event| &event.name))?;
    distinct("action", raw.actions.iter().map(|action| &action.name))
}

fn distinct<'n>(what: &str, names: impl Iterator<Item = &'n String>) -> Checked<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            return no(format!("the {what} name \"{name}\" is not 1 to 63 letters, digits, '-' and '_'"));
        }
        if !seen.insert(name) {
            return no(format!("the {what} name \"{name}\" is used twice"));
        }
    }
    Ok(())
}

fn service(raw: RawService) -> Checked<Service> {
    let Some((scheme, rest)) = raw.url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
    else {
        return no("url is the application's public URL and starts with http:// or https://");
    };
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'[' | b']' | b'_');
    if host.is_empty() || !host.bytes().all(host_ok) {
        return no("url has no plain host; it may not hold a user or password");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#')) {
        return no("url's path holds a query, a fragment or a character that must be percent-encoded");
    }
    let prefix = if path.is_empty() { "/".to_owned() } else { format!("/{}/", path.trim_end_matches('/')) };
    let origin = format!("{scheme}://{host}");
    let headers = headers(raw.headers, &origin)?;
    Ok(Service { resource: raw.resource, host: host.to_owned(), prefix, headers, origin })
}

fn headers(raw: BTreeMap<String, String>, origin: &str) -> Checked<Vec<(String, String)>> {
    let ours = ["host", "authorization", "content-length", "transfer-encoding", "connection", "if-match", "cookie"];
    raw.into_iter()
        .map(|(name, value)| {
            let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if name.is_empty() || !name.bytes().all(token) || ours.contains(&name.to_ascii_lowercase().as_str()) {
                return no(format!("the header \"{name}\" cannot be declared"));
            }
            let value = value.replace("{origin}", origin);
            if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
                return no(format!("the value of header \"{name}\" is not plain ASCII"));
            }
            Ok((name, value))
        })
        .collect()
}

fn path(path: &str) -> Checked<()> {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\'));
    let climbs = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if path.starts_with('/') || !plain || climbs {
        return no(format!("the path \"{path}\" must be relative to url, without query, '.' or '..'"));
    }
    Ok(())
}

fn table(raw: RawTable, names: &[(String, Vec<String>)]) -> Checked<Table> {
    if raw.columns.is_empty() || raw.columns.len() > Declaration::MAX_COLUMNS {
        return no(format!("a table has 1 to {} columns", Declaration::MAX_COLUMNS));
    }
    distinct("column", raw.columns.iter().map(|column| &column.name))?;
    path(&raw.path)?;
    let keys: Vec<usize> = raw.columns.iter().enumerate().filter(|(_, c)| c.key).map(|(at, _)| at).collect();
    let [key] = keys.as_slice() else { return no("exactly one column has key = true") };
    let columns: Vec<Column> = raw.columns.into_iter().map(column).collect();
    if !columns.get(*key).is_some_and(|c| matches!(c.kind, ColumnType::Text | ColumnType::Integer)) {
        return no("the key column is of type text or integer");
    }
    if raw.max_deleted_percent > 100 {
        return no("max_deleted_percent is 0 to 100");
    }
    let viewer = raw.viewer.map(|person| audience(person, &columns, names)).transpose()?;
    let window = raw.window.map(|window| self::window(window, &columns)).transpose()?;
    let detail = match raw.detail {
        None => None,
        Some(detail) => {
            path(&detail.path)?;
            let path = Template::parse(&detail.path, &columns)?;
            if path.columns().any(|column| column != *key) {
                return no("detail.path may only name the key column");
            }
            Some(Detail { path, query: detail.query.into_iter().collect(), item: detail.item })
        }
    };
    Ok(Table {
        name: raw.name,
        path: raw.path,
        query: raw.query.into_iter().collect(),
        items: raw.items,
        paging: paging(raw.paging)?,
        window,
        columns,
        key: *key,
        viewer,
        detail,
        max_deleted_percent: raw.max_deleted_percent,
    })
}

fn column(raw: RawColumn) -> Column {
    Column { path: raw.path.unwrap_or_else(|| raw.name.clone()), name: raw.name, kind: raw.kind }
}

fn paging(raw: RawPaging) -> Checked<Paging> {
    if !(1..=1_000).contains(&raw.size) || !(1..=10_000).contains(&raw.max_pages) {
        return no("paging.size is 1 to 1000 and paging.max_pages 1 to 10000");
    }
    let RawPaging { size, size_parameter, index_parameter, first_index, max_pages } = raw;
    Ok(Paging { size, size_parameter, index_parameter, first_index, max_pages })
}

fn window(raw: RawWindow, columns: &[Column]) -> Checked<Window> {
    let column = position(columns, &raw.column)?;
    if !columns.get(column).is_some_and(|c| c.kind == ColumnType::Text) {
        return no("window.column is of type text");
    }
    if raw.days == 0 || !raw.value.contains("{date}") {
        return no("window.days is at least 1 and window.value holds {date}");
    }
    Ok(Window { column, parameter: raw.parameter, value: raw.value, days: raw.days })
}

fn position(columns: &[Column], name: &str) -> Checked<usize> {
    match columns.iter().position(|column| column.name == name) {
        Some(at) => Ok(at),
        None => no(format!("there is no column \"{name}\"")),
    }
}

fn audience(raw: RawPerson, columns: &[Column], names: &[(String, Vec<String>)]) -> Checked<Audience> {
    let column = position(columns, &raw.column)?;
    let via = match raw.references {
        None => None,
        Some(to) => {
            let Some((table, (_, there))) = names.iter().enumerate().find(|(_, (name, _))| *name == to.table) else {
                return no(format!("there is no table \"{}\"", to.table));
            };
            let Some(column) = there.iter().position(|name| *name == to.column) else {
                return no(format!("table \"{}\" has no column \"{}\"", to.table, to.column));
            };
            Some(Via { table, column })
        }
    };
    Ok(Audience { column, via, is: raw.is })
}

fn table_by_name<'t>(tables: &'t [Table], name: &str) -> Checked<(usize, &'t Table)> {
    match tables.iter().enumerate().find(|(_, table)| table.name == name) {
        Some(found) => Ok(found),
        None => no(format!("there is no table \"{name}\"")),
    }
}

fn event(raw: RawEvent, tables: &[Table], names: &[(String, Vec<String>)], actions: &[Action]) -> Checked<Event> {
    let (at, table) = table_by_name(tables, &raw.table)?;
    if table.viewer.is_none() {
        return no(format!("table \"{}\" has no viewer rule, so nobody could read these cards", raw.table));
    }
    if raw.on.is_empty() {
        return no("on names at least one of new, change, delete");
    }
    let title = Template::parse(&raw.card.title, &table.columns)?;
    let body = Template::parse(&raw.card.body, &table.columns)?;
    let shown: BTreeSet<usize> = title.columns().chain(body.columns()).collect();
    if shown.len() > Declaration::MAX_CARD_COLUMNS {
        return no(format!(
            "a card shows at most {} columns; leave the rest to the application",
            Declaration::MAX_CARD_COLUMNS
        ));
    }
    let mut buttons = Vec::new();
    for name in &raw.card.actions {
        match actions.iter().position(|action| action.name == *name && action.table == at) {
            Some(action) => buttons.push(action),
            None => return no(format!("there is no action \"{name}\" on table \"{}\"", raw.table)),
        }
    }
    let close = raw.close.map(|raw| condition(raw, &table.columns, 0)).transpose()?;
    if close.as_ref().is_some_and(|close| !close.is_state()) {
        return no("close uses only the verb \"is\"");
    }
    Ok(Event {
        name: raw.name,
        table: at,
        on: raw.on,
        when: condition(raw.when, &table.columns, 0)?,
        audience: audience(raw.audience, &table.columns, names)?,
        card: CardTemplate { title, body, priority: raw.card.priority, actions: buttons },
        close,
    })
}

fn action(raw: RawAction, tables: &[Table], service: &Service) -> Checked<Action> {
    let (at, table) = table_by_name(tables, &raw.table)?;
    if table.detail.is_none() {
        return no(format!("table \"{}\" has no detail, which the check and the reading back need", raw.table));
    }
    let check = condition(raw.check, &table.columns, 0)?;
    let expect = condition(raw.expect, &table.columns, 0)?;
    if !check.is_state() || !expect.is_state() {
        return no("check and expect use only the verb \"is\"");
    }
    if expect == Condition::All(Vec::new()) || check == Condition::All(Vec::new()) {
        return no("check and expect may not be empty: an action that is not checked and read back is not run");
    }
    if raw.write.method == crate::Method::Get {
        return no("write.method is POST, PUT, PATCH or DELETE");
    }
    path(&raw.write.path)?;
    let body = raw.write.body.into_iter().map(|(name, value)| {
        let value = match value {
            RawValue::Text(text) => BodyValue::Text(Template::parse(&text, &table.columns)?),
            RawValue::Bool(truth) => BodyValue::Fixed(Value::Bool(truth)),
            RawValue::Integer(number) => BodyValue::Fixed(Value::from(number)),
            RawValue::Real(number) => BodyValue::Fixed(Value::from(number)),
        };
        Ok((name, value))
    });
    Ok(Action {
        label: raw.label,
        table: at,
        check,
        method: raw.write.method,
        path: Template::parse(&raw.write.path, &table.columns)?,
        headers: headers(raw.write.headers, &service.origin)?,
        if_match: raw.write.if_match,
        body: body.collect::<Checked<_>>()?,
        expect,
        name: raw.name,
    })
}

fn condition(raw: RawCondition, columns: &[Column], depth: usize) -> Checked<Condition> {
    if depth > MAX_DEPTH {
        return no(format!("conditions nest at most {MAX_DEPTH} deep"));
    }
    let parts = |parts: Vec<RawCondition>| -> Checked<Vec<Condition>> {
        parts.into_iter().map(|part| condition(part, columns, depth + 1)).collect()
    };
    match raw {
        RawCondition { all: Some(all), any: None, column: None, .. } => Ok(Condition::All(parts(all)?)),
        RawCondition { all: None, any: Some(any), column: None, .. } => Ok(Condition::Any(parts(any)?)),
        RawCondition { all: None, any: None, column: Some(_), .. } => term(raw, columns).map(Condition::Term),
        RawCondition { all: None, any: None, column: None, verb: None, compare: None, value: None, .. } => {
            Ok(Condition::All(Vec::new()))
        }
        _ => no("a condition is one of: all = [..], any = [..], or column, verb, compare and a value"),
    }
}

fn term(raw: RawCondition, columns: &[Column]) -> Checked<Term> {
    let column = position(columns, &raw.column.unwrap_or_default())?;
    let verb = raw.verb.unwrap_or(Verb::Is);
    let value = raw.value.map(|value| match value {
        RawValue::Bool(truth) => Cell::Bool(truth),
        RawValue::Integer(number) => Cell::Integer(number),
        RawValue::Real(number) => Cell::Real(number),
        RawValue::Text(text) => Cell::Text(text),
    });
    let given: Vec<Operand> = [
        value.map(Operand::Value),
        raw.null.then_some(Operand::Value(Cell::Null)),
        raw.today_minus.map(Operand::TodayMinus),
        raw.now.then_some(Operand::Now),
    ]
    .into_iter()
    .flatten()
    .collect();
    match (verb, given.as_slice()) {
        (Verb::Changes | Verb::NoChange, []) if raw.compare.is_none() => {
            Ok(Term { column, verb, compare: Comparator::Eq, operand: Operand::Value(Cell::Null) })
        }
        (Verb::Is | Verb::Becomes, [operand]) => {
            Ok(Term { column, verb, compare: raw.compare.unwrap_or(Comparator::Eq), operand: operand.clone() })
        }
        _ => no("is and becomes take exactly one of value, null, today_minus, now; changes and no_change take none"),
    }
}
