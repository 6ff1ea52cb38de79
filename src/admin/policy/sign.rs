//! Reads what control proposes, says what it changes, signs it here.
//!
//! Control is not believed: what changes is found out from the bytes that will be signed and from the record of what
//! this key signed before; and what no connector would take is not signed.

use std::io::{BufRead, Write};

use anyhow::Context;
use sluice_connector_wire::{AllowList, list_changes, sign_proposed_list, when};
use sluice_control_server::admin_api::PendingList;
use sluice_node_identity::{Fingerprint, TenantId, UnixTime, is_plain};

use super::own::OwnKey;

/// A list that could be signed.
pub(super) struct Reading {
    pub(super) list: AllowList,
    /// What people decide by.
    pub(super) words: String,
    pub(super) standing: Standing,
}

/// How a list stands to the one signed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Says the same as the one recorded here; its end alone differs.
    Renewal,
    /// Says something else, or there was none before.
    Change,
    /// This key has signed one before, as control can prove, but which was the last is not recorded here.
    Unrecorded,
}

/// What a list is compared with, in words too.
struct Before {
    list: Option<AllowList>,
    words: String,
    standing: Standing,
}

/// Reads one proposal for `tenant`. With a key, only what it signed counts as what was before.
pub(super) fn read(pending: &PendingList, tenant: &TenantId, own: Option<&OwnKey>) -> anyhow::Result<Reading> {
    let connector = &pending.connector;
    let list: AllowList = serde_json::from_str(&pending.payload)
        .with_context(|| format!("control proposes something for {connector} that is no list of this release"))?;
    anyhow::ensure!(
        list.tenant == *tenant && list.connector == *connector,
        "control proposes a list for {}/{} as one for {tenant}/{connector}",
        list.tenant,
        list.connector
    );
    let before = match own {
        Some(own) => recorded(pending, &list, own)?,
        None => said(pending, &list)?,
    };
    let changes = list_changes(before.list.as_ref(), &list);
    let mut words = format!(
        "{connector}: version {}, good until {}, digest {}\n  {}\n",
        list.version,
        when(list.not_after),
        Fingerprint::of(pending.payload.as_bytes()).as_str(),
        before.words,
    );
    for line in &changes {
        words.push_str(&format!("  {line}\n"));
    }
    let same = before.list.is_some() && changes.is_empty();
    if same {
        words.push_str("  nothing changes but its end\n");
    }
    // What control wrote must not steer a terminal.
    let words = words.chars().map(|c| if is_plain(c) || c == '\n' { c } else { '?' }).collect();
    let standing = if same && own.is_some() { Standing::Renewal } else { before.standing };
    Ok(Reading { list, words, standing })
}

/// Compared with what control says the connector has: for those without the key at hand.
fn said(pending: &PendingList, list: &AllowList) -> anyhow::Result<Before> {
    let before = pending.signed.as_ref().and_then(sluice_connector_wire::SignedAllowList::unverified);
    let words = match &before {
        Some(before) => format!("against version {}, as control says", before.version),
        None => "control says that nothing was signed before: everything is new".to_owned(),
    };
    anyhow::ensure!(before.as_ref().is_none_or(|before| order(before) < order(list)), older(list));
    Ok(Before { list: before, words, standing: Standing::Change })
}

/// Compared with what this key signed last, by the record beside it.
fn recorded(pending: &PendingList, list: &AllowList, own: &OwnKey) -> anyhow::Result<Before> {
    let shown = pending.signed.as_ref().and_then(|signed| own.signed(signed, &list.tenant, &list.connector));
    let record = own.record(&list.tenant, &list.connector);
    let Some(last) = own.last(&list.tenant, &list.connector)? else {
        return Ok(match shown {
            Some(shown) => Before {
                list: None,
                words: format!(
                    "ATTENTION: this key has signed lists for this connector, but {} is missing. Control shows \
                     version {}, which may be an old one: everything is shown as new",
                    record.display(),
                    shown.version
                ),
                standing: Standing::Unrecorded,
            },
            None => Before {
                list: None,
                words: format!(
                    "{} is missing: nothing signed with this key before is known; everything is new",
                    record.display()
                ),
                standing: Standing::Change,
            },
        });
    };
    // The same bytes may be signed again: control may not have got the signature.
    let again = last.payload == pending.payload.as_bytes();
    anyhow::ensure!(again || order(&last.list) < order(list), older(list));
    let mut words = format!("against version {}, which this key signed last, by the record here", last.list.version);
    match shown.map(|shown| (order(&shown).cmp(&order(&last.list)), shown.version)) {
        Some((std::cmp::Ordering::Less, version)) => {
            words.push_str(&format!(
                "\n  control shows version {version} as the one the connector has: the later signature did not reach \
                 it, or control does not tell the truth"
            ));
        }
        Some((std::cmp::Ordering::Greater, version)) => {
            words.push_str(&format!(
                "\n  control shows version {version}, signed with a copy of this key elsewhere; it is not compared with"
            ));
        }
        Some((std::cmp::Ordering::Equal, _)) | None => {}
    }
    Ok(Before { list: Some(last.list), words, standing: Standing::Change })
}

fn order(list: &AllowList) -> (u64, u64) {
    (list.epoch, list.version)
}

fn older(list: &AllowList) -> String {
    format!("control proposes a list for {} that is not newer than the one signed last", list.connector)
}

/// Signs the exact bytes that were read, and records them.
pub(super) fn sign(pending: &PendingList, reading: &Reading, own: &OwnKey, now: UnixTime) -> anyhow::Result<String> {
    let (tenant, connector) = (&reading.list.tenant, &reading.list.connector);
    let jws = sign_proposed_list(pending.payload.as_bytes(), &own.key)?;
    own.judged(jws.clone(), tenant, connector, now)?;
    own.keep(tenant, connector, &jws)?;
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
