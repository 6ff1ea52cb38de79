//! From the cache's messages to the feed's records. Done twice is done once; killed in between, it is done later.

use sluice_control_domain::{CardRecord, CardState, ChangeSet, Commit, Kind, Load, RecordKey, Typed};
use sluice_control_feed::{FeedMessage, NewCard};
use sluice_node_identity::{IntegrationId, TenantId, UnixTime};

use crate::{WorkError, Workers, seal};

/// Messages taken at once.
const BATCH: u32 = 200;
/// How often a commit that met another is tried again.
const TRIES: u8 = 5;

impl Workers {
    /// Delivers every message that waits in the tenant's cache.
    ///
    /// # Errors
    /// When cache or store fail; what was delivered stays delivered, the rest waits.
    pub async fn drain(&self, tenant: &TenantId) -> Result<(), WorkError> {
        // One at a time, so that a card's closing never overtakes its making.
        let _turn = self.draining.lock().await;
        loop {
            let messages = self.parts.cache.messages(tenant, BATCH).await?;
            let Some((last, ..)) = messages.last() else { return Ok(()) };
            let last = *last;
            for (_, integration, message) in messages {
                match message {
                    FeedMessage::Open(card) => self.open_card(tenant, &integration, card).await?,
                    FeedMessage::Close { id, reason, at } => self.close_card(tenant, &id, &reason, at).await?,
                }
            }
            self.parts.cache.delivered(tenant, last).await?;
        }
    }

    async fn open_card(&self, tenant: &TenantId, integration: &IntegrationId, card: NewCard) -> Result<(), WorkError> {
        let keys = self.parts.keys.as_ref();
        let record = CardRecord {
            tenant: tenant.clone(),
            sealed: seal::seal(keys, tenant, &card.user, &card.id, &card.text)?,
            row: seal::row_name(keys, tenant, integration, &card.text)?,
            id: card.id,
            user: card.user,
            integration: integration.clone(),
            rule: card.rule,
            state: CardState::Open,
            score: card.score,
            created: card.created,
            closed: None,
        };
        match self.parts.store.commit(ChangeSet::of(tenant).create(&record)).await? {
            Commit::Done => Ok(()),
            Commit::Conflict if self.card(tenant, &record.id).await?.is_some() => Ok(()),
            Commit::Conflict => Err(WorkError::Failed("the store refused a new card".into())),
        }
    }

    async fn close_card(&self, tenant: &TenantId, id: &str, reason: &str, at: UnixTime) -> Result<(), WorkError> {
        for _ in 0..TRIES {
            let Some(card) = self.card(tenant, id).await? else { return Ok(()) };
            if card.body.state == CardState::Closed {
                return Ok(());
            }
            let mut closed = card.body.clone();
            closed.state = CardState::Closed;
            closed.closed = Some((at, reason.to_owned()));
            if self.parts.store.commit(ChangeSet::of(tenant).update(&card, &closed)).await? == Commit::Done {
                return Ok(());
            }
        }
        Err(WorkError::Failed("a card keeps changing; it is closed later".into()))
    }

    /// A card's record.
    pub(crate) async fn card(&self, tenant: &TenantId, id: &str) -> Result<Option<Typed<CardRecord>>, WorkError> {
        let key = RecordKey { kind: Kind::Card, tenant: tenant.to_string(), id: id.to_owned() };
        let found = self.parts.store.load(Load::Keys(vec![key])).await?.pop();
        Ok(found.map(|stored| stored.typed()).transpose()?)
    }
}
