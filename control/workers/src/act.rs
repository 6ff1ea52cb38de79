//! Running an action as a user.

use std::time::Duration;

use serde_json::json;
use sluice_control_domain::{AuditEntry, CardState, ChangeSet, Commit, UserRecord};
use sluice_control_feed::{CardText, Input, Next, Outcome, Person, Plan};
use sluice_control_sync::{Action, Row};

use crate::{
    RowEdit, Target, WorkError, Workers,
    http::{HttpError, Session},
    lease::{Lease, now},
    seal,
};

/// An action on a card, found and allowed.
struct Deed<'d> {
    user: &'d UserRecord,
    person: Person,
    card: String,
    text: CardText,
    target: Target,
    table: usize,
}

impl Workers {
    /// Runs an action as the user; gives a sentence for the user.
    ///
    /// # Errors
    /// [`WorkError`]: what was not done and why.
    pub async fn act(&self, user: &UserRecord, card: &str, action: &str) -> Result<String, WorkError> {
        let (deed, at) = self.deed(user, card, action).await?;
        let Some(action) = deed.target.declaration.actions.get(at) else { return Err(unknown()) };
        let job = format!("act/{}/{card}", user.tenant);
        let Some(lease) = Lease::take(&self.parts.store, &self.parts.process, job, Duration::ZERO).await? else {
            return Err(WorkError::Refused("this card is being acted on already; look again soon".into()));
        };
        let outcome = self.run(&deed, action).await;
        let outcome = match outcome {
            Ok(outcome) => self.settle(&deed, action, outcome).await,
            Err(error) => Err(error),
        };
        lease.end().await;
        outcome
    }

    /// Finds the card and the action; tells nobody whether another's card exists.
    async fn deed<'d>(&self, user: &'d UserRecord, card: &str, action: &str) -> Result<(Deed<'d>, usize), WorkError> {
        let record = self.card(&user.tenant, card).await?.map(|card| card.body);
        let mine = record.filter(|card| card.user == user.id && card.state == CardState::Open && !user.disabled);
        let Some(record) = mine else { return Err(unknown()) };
        let text = seal::open(self.parts.keys.as_ref(), &user.tenant, &user.id, &record.id, &record.sealed)?;
        let target = self.target(&user.tenant, &record.integration).await?;
        let buttons = target.declaration.event(&record.rule).map(|event| &event.card.actions);
        let named = |at: &&usize| target.declaration.actions.get(**at).is_some_and(|a| a.name == action);
        let Some(at) = buttons.and_then(|at| at.iter().find(named)).copied() else { return Err(unknown()) };
        let Some((table, _)) = target.declaration.table(&text.table) else { return Err(unknown()) };
        let person = Person { user: user.id.clone(), email: user.email.clone() };
        let row = vec![(text.table.clone(), text.key.clone())];
        if self.parts.cache.visible(&target, &person, row).await? != [true] {
            return Err(unknown());
        }
        Ok((Deed { user, person, card: record.id, text, target, table }, at))
    }

    async fn run(&self, deed: &Deed<'_>, action: &Action) -> Result<Outcome, WorkError> {
        let (tenant, integration) = (&deed.target.tenant, &deed.target.integration);
        let Some(credential) = self.parts.credentials.user(tenant, integration, &deed.user.id).await? else {
            return Err(WorkError::Refused(format!(
                "store your own login for \"{integration}\" under Credentials first"
            )));
        };
        let Some(row) = self.parts.cache.row(&deed.target, deed.table, &deed.text.key).await? else {
            return Ok(Outcome::Gone);
        };
        // What cannot be recorded is not done.
        self.record(deed, action, "begun").await?;
        let declaration = &deed.target.declaration;
        let sub = format!("user/{}", deed.user.id);
        let resource = &declaration.service.resource;
        let mut session = Session::new(self.parts.reach.as_ref(), tenant, resource, sub, &credential)
            .map_err(|error| WorkError::Refused(error.to_string()))?;
        let Some(mut plan) = Plan::new(declaration, action, row, now()) else { return Err(unknown()) };
        let mut next = plan.step(Input::Begin);
        loop {
            next = match next {
                Next::Send(request) => match session.send(&request).await {
                    Ok(response) => plan.step(Input::Response(&response)),
                    Err(error) => {
                        tracing::info!(%tenant, %integration, "an action's request was lost: {error}");
                        if let HttpError::Reach(_) = error
                            && request.method == sluice_control_sync::Method::Get
                        {
                            return Err(WorkError::Failed(error.to_string()));
                        }
                        plan.step(Input::Lost)
                    }
                },
                Next::Judge(row) => {
                    let may = self.parts.cache.sees(&deed.target, &deed.person, deed.table, row).await?;
                    plan.step(Input::Judged(may))
                }
                Next::Finish(outcome) => return Ok(outcome),
            };
        }
    }

    /// Brings cache, feed and audit up to what happened.
    async fn settle(&self, deed: &Deed<'_>, action: &Action, outcome: Outcome) -> Result<String, WorkError> {
        let done = matches!(outcome, Outcome::Written(_) | Outcome::Already(_));
        let seen: Option<Option<Row>> = match &outcome {
            Outcome::Written(row) | Outcome::Already(row) | Outcome::TooLate(row) | Outcome::Failed(_, Some(row)) => {
                Some(Some(row.clone()))
            }
            Outcome::Gone => Some(None),
            Outcome::NotYours | Outcome::Refused | Outcome::Failed(_, None) => None,
        };
        self.record(deed, action, name(&outcome)).await?;
        if let Some(row) = seen {
            let edit = RowEdit {
                target: deed.target.clone(),
                table: deed.table,
                key: deed.text.key.clone(),
                row,
                close: done.then(|| (deed.card.clone(), format!("{} by {}", action.name, deed.user.id))),
                people: self.people(&deed.target.tenant).await?,
                now: now(),
            };
            self.parts.cache.edit(edit).await?;
            self.drain(&deed.target.tenant).await?;
        }
        let sentence = outcome.sentence(&action.label);
        if done { Ok(sentence) } else { Err(WorkError::Refused(sentence)) }
    }

    async fn record(&self, deed: &Deed<'_>, action: &Action, outcome: &str) -> Result<(), WorkError> {
        let detail = json!({ "integration": deed.target.integration, "action": action.name, "outcome": outcome });
        let entry = AuditEntry {
            at: now(),
            actor: format!("user/{}", deed.user.id),
            act: "card.act".into(),
            subject: format!("card/{}", deed.card),
            detail,
        };
        match self.parts.store.commit(ChangeSet::of(&deed.target.tenant).audit(entry)).await? {
            Commit::Done => Ok(()),
            Commit::Conflict => Err(WorkError::Failed("the audit record could not be written".into())),
        }
    }
}

const fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Written(_) => "written",
        Outcome::Already(_) => "already",
        Outcome::TooLate(_) => "too late",
        Outcome::Gone => "gone",
        Outcome::NotYours => "not yours",
        Outcome::Refused => "refused",
        Outcome::Failed(..) => "failed",
    }
}

fn unknown() -> WorkError {
    WorkError::NotFound("there is no such card or action in your feed; it may be closed already".into())
}
