//! From changes to cards, and from rows to closings.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_control_sync::{Change, ChangeKind, Declaration, Event, Key, Row};
use sluice_node_identity::{IntegrationId, TenantId, UnixTime, UserId};

use crate::{Lookup, People, Person, score::score, see, viewer::value};

/// Where a change happened.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// Whose.
    pub tenant: &'c TenantId,
    /// Which.
    pub integration: &'c IntegrationId,
    /// Its declaration.
    pub declaration: &'c Declaration,
    /// Number of the swap that brought the change: the same change may happen again later.
    pub generation: u64,
    /// When.
    pub now: UnixTime,
}

/// What a card says and is about; sealed before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardText {
    /// Title.
    pub title: String,
    /// Body.
    pub body: String,
    /// Table.
    pub table: String,
    /// Row.
    pub key: Key,
    /// What had happened to the row.
    pub kind: ChangeKind,
}

/// A card to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCard {
    /// H(tenant, integration, rule, row, transition, user), hex.
    pub id: String,
    /// Event rule.
    pub rule: String,
    /// Whose feed.
    pub user: UserId,
    /// What it says.
    pub text: CardText,
    /// Rank.
    pub score: i64,
    /// When.
    pub created: UnixTime,
}

/// A message from the cache to the feed. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedMessage {
    /// A card is made.
    Open(NewCard),
    /// A card has had its day.
    Close {
        /// Which.
        id: String,
        /// Why, for people.
        reason: String,
        /// When.
        at: UnixTime,
    },
}

/// Cards that a change makes: for each matching event, one for each user of its audience who may see the row.
///
/// # Errors
/// Those of the lookup.
pub fn derive<L: Lookup>(
    context: Context<'_>,
    change: &Change,
    lookup: &L,
    people: &People,
) -> Result<Vec<NewCard>, L::Error> {
    let Some(kind) = change.kind() else { return Ok(Vec::new()) };
    let Some(row) = change.after.as_ref().or(change.before.as_ref()) else { return Ok(Vec::new()) };
    let mut cards = Vec::new();
    for event in &context.declaration.events {
        let asked = event.table == change.table && event.on.contains(&kind);
        if !asked || !event.when.holds(change.before.as_ref(), row, context.now) || over(event, row, kind, context.now)
        {
            continue;
        }
        let Some(value) = value(&event.audience, row, lookup)? else { continue };
        for person in people.find(event.audience.is, &value) {
            if see(context.declaration, change.table, row, lookup, person)?.is_some() {
                cards.extend(card(context, event, change, kind, row, person));
            }
        }
    }
    Ok(cards)
}

/// An event whose close condition already holds makes no card.
fn over(event: &Event, row: &Row, kind: ChangeKind, now: UnixTime) -> bool {
    kind != ChangeKind::Delete && event.close.as_ref().is_some_and(|close| close.holds_of(row, now))
}

fn card(
    context: Context<'_>,
    event: &Event,
    change: &Change,
    kind: ChangeKind,
    row: &Row,
    person: &Person,
) -> Option<NewCard> {
    let table = context.declaration.tables.get(change.table)?;
    let text = CardText {
        title: event.card.title.fill(row),
        body: event.card.body.fill(row),
        table: table.name.clone(),
        key: change.key.clone(),
        kind,
    };
    Some(NewCard {
        id: id(context, event, change, &table.name, &person.user),
        rule: event.name.clone(),
        user: person.user.clone(),
        text,
        score: score(event.card.priority, context.now).value,
        created: context.now,
    })
}

fn id(context: Context<'_>, event: &Event, change: &Change, table: &str, user: &UserId) -> String {
    let hash_of = |row: &Option<Row>| row.as_ref().map(|row| hex(&row.hash())).unwrap_or_default();
    let (before, after) = (hash_of(&change.before), hash_of(&change.after));
    let generation = context.generation.to_string();
    let mut hash = Sha256::new();
    for part in [
        context.tenant.as_str(),
        context.integration.as_str(),
        &event.name,
        table,
        &change.key,
        &before,
        &after,
        &generation,
        user.as_str(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|n| char::from_digit(u32::from(n), 16)).collect()
}

/// Why an open card is over; `None`: it is not. `row` is the row as it is now, `person` the card's user as he is now.
///
/// # Errors
/// Those of the lookup.
pub fn verdict<L: Lookup>(
    context: Context<'_>,
    rule: &str,
    kind: ChangeKind,
    row: Option<&Row>,
    person: Option<&Person>,
    lookup: &L,
) -> Result<Option<&'static str>, L::Error> {
    let Some(event) = context.declaration.event(rule) else { return Ok(Some("its rule was removed")) };
    let Some(person) = person else { return Ok(Some("the account is disabled")) };
    let Some(row) = row else { return Ok((kind != ChangeKind::Delete).then_some("the record is gone")) };
    if kind == ChangeKind::Delete {
        return Ok(Some("the record is back"));
    }
    if event.close.as_ref().is_some_and(|close| close.holds_of(row, context.now)) {
        return Ok(Some("it is done"));
    }
    let meant = value(&event.audience, row, lookup)?.is_some_and(|value| person.is(event.audience.is, &value));
    if !meant || see(context.declaration, event.table, row, lookup, person)?.is_none() {
        return Ok(Some("it is somebody else's now"));
    }
    Ok(None)
}
