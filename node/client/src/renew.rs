//! Keeping the certificate fresh: a new key each day, re-joining after a long sleep.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http::Method;
use sluice_node_identity::{
    UnixTime,
    api::{Chain, Joined, RejoinRequest, RenewRequest},
};

use crate::{
    call::{CALL_TIME, CallError},
    certificate::Facts,
    identity::{self, Identity, Next},
    join,
    node::Inner,
};

/// A certificate this old is renewed, seconds.
const RENEW_AFTER: u64 = 24 * 3600;
/// How often age is looked at; also the pause after a failure.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a certificate's age asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Renew,
    Rejoin,
}

fn due(facts: &Facts, now: UnixTime) -> Due {
    if now > facts.not_after {
        Due::Rejoin
    } else if now.since(facts.not_before) >= RENEW_AFTER || renew_early(facts, now) {
        Due::Renew
    } else {
        Due::Nothing
    }
}

/// Short-lived certificates are renewed at half their life.
fn renew_early(facts: &Facts, now: UnixTime) -> bool {
    now.since(facts.not_before) >= facts.not_after.since(facts.not_before) / 2
}

/// Runs until dropped.
pub(crate) async fn keep_fresh(node: Arc<Inner>) {
    loop {
        if let Err(error) = step(&node).await {
            tracing::warn!("certificate: {error:#}; trying again");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Does what the certificate's age asks for.
pub(crate) async fn step(node: &Inner) -> anyhow::Result<()> {
    let now = UnixTime::from(std::time::SystemTime::now());
    match due(&node.identity().facts()?, now) {
        Due::Rejoin => {
            let _one_at_a_time = node.renewing.lock().await;
            rejoin(node).await
        }
        Due::Renew => renew(node).await,
        Due::Nothing => {
            let _one_at_a_time = node.renewing.lock().await;
            settle(node).await
        }
    }
}

/// Takes a new key into use; an earlier renewal is settled first.
pub(crate) async fn renew(node: &Inner) -> anyhow::Result<()> {
    let _one_at_a_time = node.renewing.lock().await;
    settle(node).await?;
    take_new_key(node).await?;
    settle(node).await
}

async fn take_new_key(node: &Inner) -> anyhow::Result<()> {
    let mut identity = node.identity();
    let next = match identity.next.clone() {
        Some(next) => next,
        None => {
            let role = identity.joined.role;
            let making = node.keys.clone();
            let key = tokio::task::spawn_blocking(move || making.generate(role)).await??;
            let next = Next { csr: node.keys.request(&key)?, key };
            identity.next = Some(next.clone());
            node.keep(identity.clone())?;
            next
        }
    };
    let chain: Chain =
        node.post("/node/v1/renew", &RenewRequest { csr: next.csr.clone() }).await.context("cannot renew")?;
    let renewed = identity.renewed(&node.keys, &next, chain.chain)?;
    // From here to the confirmation nothing may be asked with the old key: control would see a clone.
    let closed = node.gate.close().await;
    node.keep(renewed)?;
    drop(closed);
    tracing::info!("certificate renewed with a new key");
    Ok(())
}

/// Makes sure that control accepts the key in use, and forgets the one before; or goes back to that one when
/// control says that it does not know the new one.
async fn settle(node: &Inner) -> anyhow::Result<()> {
    let identity = node.identity();
    if identity.previous.is_none() {
        return Ok(());
    }
    // The state feed answers at once; it is dropped unread.
    let response = {
        let _call = node.gate.call().await;
        node.control.send(node.tls.clone(), Method::GET, "/node/v1/state?after=0", Vec::new(), CALL_TIME).await
    };
    match response.map(|response| response.status()) {
        Ok(status) if status.is_success() => {
            // First, so that a crash in between cannot leave it in the token for ever.
            identity.previous.as_ref().map_or(Ok(()), |previous| node.keys.forget(&previous.key))?;
            node.keep(Identity { previous: None, ..identity })
        }
        Ok(status) if matches!(status.as_u16(), 401 | 403) => {
            tracing::warn!("control does not know the renewed key; going back to the one before");
            let _closed = node.gate.close().await;
            identity.reverted().map_or(Ok(()), |reverted| node.keep(reverted))
        }
        Ok(status) => anyhow::bail!("control answered {status} to the renewed certificate"),
        Err(error) => Err(error).context("cannot confirm the renewed certificate"),
    }
}

/// Proves the bound key once more, after the certificate has expired.
async fn rejoin(node: &Inner) -> anyhow::Result<()> {
    let identity = node.identity();
    match ask_again(node, &identity).await {
        Ok(renewed) => {
            node.keep(renewed)?;
            tracing::info!("re-joined after the certificate had expired");
            Ok(())
        }
        Err(CallError::Refused { message, .. }) if identity.previous.is_some() => {
            tracing::warn!("re-join refused: {message}; trying with the key before");
            let reverted = identity.reverted().context("no key before")?;
            let renewed = ask_again(node, &reverted).await?;
            node.keep(renewed)
        }
        Err(error) => Err(error).context("cannot re-join; an administrator can give this node a new join code"),
    }
}

async fn ask_again(node: &Inner, identity: &Identity) -> Result<Identity, CallError> {
    let unusable = CallError::Unreachable;
    let csr = node.keys.request(&identity.key).map_err(unusable)?;
    let nonce = join::nonce(&node.control, &node.anonymous_tls).await?;
    let proof = node.keys.proof(&identity.key, &csr, &nonce).map_err(unusable)?;
    let (tenant, id) = (identity.joined.tenant.clone(), identity.joined.id.clone());
    let request = RejoinRequest { tenant, id, csr, nonce, proof };
    let joined: Joined = join::post(&node.control, &node.anonymous_tls, "/node/v1/rejoin", &request).await?;
    identity::check(&node.keys, &identity.spiffe(), &joined.chain, &identity.key).map_err(unusable)?;
    let joined = Joined { chain: joined.chain, ..identity.joined.clone() };
    Ok(Identity { joined, previous: None, next: None, ..identity.clone() })
}

#[cfg(test)]
mod tests {
    use sluice_node_identity::Fingerprint;

    use super::*;

    fn facts(not_before: u64, not_after: u64) -> Facts {
        let key = Fingerprint::of(b"key");
        Facts { key, spiffe: None, not_before: UnixTime(not_before), not_after: UnixTime(not_after) }
    }

    #[test]
    fn week_long_certificate_is_renewed_daily_and_rejoined_when_expired() {
        let week = facts(1_000, 1_000 + 7 * 86_400);
        for (age, expected) in [
            (0, Due::Nothing),
            (RENEW_AFTER - 1, Due::Nothing),
            (RENEW_AFTER, Due::Renew),
            (7 * 86_400, Due::Renew),
            (7 * 86_400 + 1, Due::Rejoin),
        ] {
            assert_eq!(due(&week, UnixTime(1_000 + age)), expected, "at age {age}");
        }
    }

    #[test]
    fn short_certificate_is_renewed_at_half_its_life() {
        let hour = facts(0, 3_600);
        assert_eq!(due(&hour, UnixTime(1_799)), Due::Nothing);
        assert_eq!(due(&hour, UnixTime(1_800)), Due::Renew);
    }
}
