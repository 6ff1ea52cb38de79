//! Reads what control proposes, says what it changes, signs it here.
//!
//! Control is not believed: what changes is found out from the bytes that will be signed and from the list that was
//! signed with this key before; and what no connector would take is not signed.

use std::io::{BufRead, Write};

use anyhow::Context;
use sluice_connector_wire::{
    AllowList, AllowListKeeper, PolicyKey, SignedAllowList, list_changes, sign_proposed_list, when,
};
use sluice_control_server::admin_api::PendingList;
use sluice_node_identity::{Fingerprint, TenantId, UnixTime};

/// A list that could be signed.
pub(super) struct Reading {
    pub(super) list: AllowList,
    /// What people decide by.
    pub(super) words: String,
}

/// Reads one proposal for `tenant`. With a key, only a list signed by it counts as what was before.
pub(super) fn read(pending: &PendingList, tenant: &TenantId, key: Option<&PolicyKey>) -> anyhow::Result<Reading> {
    let connector = &pending.connector;
    let list: AllowList = serde_json::from_str(&pending.payload)
        .with_context(|| format!("control proposes something for {connector} that is no list of this release"))?;
    anyhow::ensure!(
        list.tenant == *tenant && list.connector == *connector,
        "control proposes a list for {}/{} as one for {tenant}/{connector}",
        list.tenant,
        list.connector
    );
    let before = match (&pending.signed, key) {
        (Some(signed), Some(key)) => signed_before(signed, &list, key),
        (Some(signed), None) => signed.unverified(),
        (None, _) => None,
    };
    let newer = before.as_ref().is_none_or(|before| (before.epoch, before.version) < (list.epoch, list.version));
    anyhow::ensure!(newer, "control proposes a list for {connector} that is older than the one it has");
    let against = match (&before, key) {
        (Some(before), Some(_)) => format!("against version {}, which this key signed", before.version),
        (Some(before), None) => format!("against version {}, as control says", before.version),
        (None, _) => "nothing was signed with this key before: everything is new".to_owned(),
    };
    let mut words = format!(
        "{connector}: version {}, good until {}, digest {}\n  {against}\n",
        list.version,
        when(list.not_after),
        Fingerprint::of(pending.payload.as_bytes()).as_str(),
    );
    let changes = list_changes(before.as_ref(), &list);
    for line in &changes {
        words.push_str(&format!("  {line}\n"));
    }
    if changes.is_empty() {
        words.push_str("  nothing changes but its end\n");
    }
    // What control wrote must not steer a terminal.
    let words = words.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect();
    Ok(Reading { list, words })
}

/// The list that the connector has, if this key signed it.
fn signed_before(signed: &SignedAllowList, list: &AllowList, key: &PolicyKey) -> Option<AllowList> {
    // One that has ended counts too.
    let at = signed.unverified()?.not_after;
    judged(signed.jws.clone(), list, key, at).ok()
}

/// What a connector that believes `key` makes of `jws`.
fn judged(jws: String, list: &AllowList, key: &PolicyKey, now: UnixTime) -> anyhow::Result<AllowList> {
    let signed = SignedAllowList { jws, policy_key: key.jwk(), succession: Vec::new() };
    let mut keeper = AllowListKeeper::new(list.tenant.clone(), list.connector.clone(), key.thumbprint(), None);
    keeper.offer(&signed, now).context("connectors would refuse this list")?;
    Ok(keeper.current().context("no list came into use")?.list().clone())
}

/// Signs the exact bytes that were read.
pub(super) fn sign(pending: &PendingList, reading: &Reading, key: &PolicyKey, now: UnixTime) -> anyhow::Result<String> {
    let jws = sign_proposed_list(pending.payload.as_bytes(), key)?;
    judged(jws.clone(), &reading.list, key, now)?;
    Ok(jws)
}

/// Asks on the terminal.
pub(super) fn agreed(connector: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("Sign this list for {connector}? [y/N] ").as_bytes()).and_then(|()| out.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read your answer; use --yes in scripts")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
