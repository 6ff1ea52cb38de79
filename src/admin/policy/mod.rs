//! The policy key: in control's keystore, or in the customer's own hands.

mod key;
mod own;
mod sign;
#[cfg(test)]
mod tests;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_connector_wire::{PolicyKey, sign_adoption, sign_succession};
use sluice_control_server::admin_api::{
    AdoptPolicyKey, ListView, PendingList, PendingLists, PolicyView, PutSignedList,
};
use sluice_node_identity::{NodeId, TenantId, UnixTime};

use self::{own::OwnKey, sign::Standing};
use super::{
    call::{Call, Show},
    client::Client,
    runtime,
};

#[derive(Subcommand)]
pub(super) enum PolicyDo {
    /// A policy key of your own, on this machine
    #[command(subcommand)]
    Key(KeyDo),
    /// Who holds the policy key, and how the connectors' lists stand
    Show {
        #[arg(long)]
        tenant: TenantId,
    },
    /// Take the policy key into your own hands. Control cannot sign from then on: sign what waits, once a week at least.
    /// What leads from the former key to yours is written to FILE.succession; keep it with the key
    Adopt {
        #[arg(long)]
        tenant: TenantId,
        /// Your key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The key you held until now, when it is replaced
        #[arg(long, value_name = "FILE")]
        old_key: Option<PathBuf>,
        /// What adopt wrote when you took the key, after control was restored from a backup made before
        #[arg(long, value_name = "FILE", conflicts_with = "old_key")]
        succession: Option<PathBuf>,
    },
    /// Show the lists that wait for your signature, and what they change
    Pending {
        #[arg(long)]
        tenant: TenantId,
        /// This connector's only
        #[arg(long)]
        connector: Option<NodeId>,
        /// Compare with what this key signed, not with what control says
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Show what waits, ask, and sign it here. What changes is told from FILE.signed, the record of what was signed
    Sign {
        #[arg(long)]
        tenant: TenantId,
        /// Your key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// This connector's only
        #[arg(long)]
        connector: Option<NodeId>,
        /// Do not ask, whatever changes: control then decides what connectors may reach
        #[arg(long)]
        yes: bool,
        /// Do not ask; sign those lists alone in which nothing changes but their end. For a daily job: exit status 1 says
        /// that others wait
        #[arg(long, conflicts_with = "yes")]
        unchanged: bool,
    },
}

/// Which lists are signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those agreed to on the terminal.
    Asked,
    /// Those in which nothing changes.
    Unchanged,
    /// All.
    All,
}

#[derive(Subcommand)]
pub(super) enum KeyDo {
    /// Make a key (P-256) in a new file that only you can read
    New {
        /// Where; keep a copy in a safe place: without it nothing can be signed
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What takes more or less than one request.
pub(super) enum Act<'a> {
    New { out: &'a Path },
    Adopt { tenant: &'a TenantId, key: &'a Path, old_key: Option<&'a Path>, succession: Option<&'a Path> },
    Pending { tenant: &'a TenantId, connector: Option<&'a NodeId>, key: Option<&'a Path> },
    Sign { tenant: &'a TenantId, connector: Option<&'a NodeId>, key: &'a Path, which: Which },
}

impl PolicyDo {
    pub(super) fn act(&self) -> Option<Act<'_>> {
        match self {
            Self::Key(KeyDo::New { out }) => Some(Act::New { out }),
            Self::Adopt { tenant, key, old_key, succession } => {
                let (old_key, succession) = (old_key.as_deref(), succession.as_deref());
                Some(Act::Adopt { tenant, key, old_key, succession })
            }
            Self::Pending { tenant, connector, key } => {
                Some(Act::Pending { tenant, connector: connector.as_ref(), key: key.as_deref() })
            }
            Self::Sign { tenant, connector, key, yes, unchanged } => {
                let which = match (yes, unchanged) {
                    (true, _) => Which::All,
                    (false, true) => Which::Unchanged,
                    (false, false) => Which::Asked,
                };
                Some(Act::Sign { tenant, connector: connector.as_ref(), key, which })
            }
            Self::Show { .. } => None,
        }
    }

    /// The one request of those that take one.
    pub(super) fn call(self) -> Call {
        let tenant = match self {
            Self::Show { tenant }
            | Self::Adopt { tenant, .. }
            | Self::Pending { tenant, .. }
            | Self::Sign { tenant, .. } => tenant.to_string(),
            Self::Key(_) => String::new(),
        };
        Call::new(Method::GET, format!("/tenants/{tenant}/policy"), Show::Policy)
    }
}

/// Does it; `connect` is called when control is needed.
pub(super) fn run(
    act: Act<'_>,
    connect: impl FnOnce() -> anyhow::Result<Client>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    match act {
        Act::New { out } => {
            let made = key::make(out)?;
            say(&if json {
                format!("{}\n", json!({ "thumbprint": made.thumbprint(), "policy_key": made.jwk() }))
            } else {
                format!("key {} written to {}; keep a copy of it safe\n", made.thumbprint(), out.display())
            })?;
        }
        Act::Adopt { tenant, key, old_key, succession } => {
            let own = OwnKey::open(key)?;
            let body = adoption(tenant, &own.key, old_key, succession)?;
            let call = Call::post(format!("/tenants/{tenant}/policy/adopt"), &body, Show::Policy)?;
            let answer = runtime()?.block_on(connect()?.run(&call))?;
            let policy: PolicyView = read(answer.clone())?;
            if let Some(step) = policy.succession.last() {
                own.keep_succession(step)?;
            }
            super::print::answer(&call, &answer, json)?;
        }
        Act::Pending { tenant, connector, key } => {
            let key = key.map(OwnKey::open).transpose()?;
            let waiting = runtime()?.block_on(waiting(&connect()?, tenant, connector))?;
            if json {
                say(&format!("{}\n", serde_json::to_string_pretty(&json!({ "items": waiting }))?))?;
            } else if waiting.is_empty() {
                say("nothing waits for a signature\n")?;
            }
            for pending in waiting.iter().filter(|_| !json) {
                say(&sign::read(pending, tenant, key.as_ref())?.words)?;
            }
        }
        Act::Sign { tenant, connector, key, which } => {
            let key = OwnKey::open(key)?;
            let client = connect()?;
            let asks = which == Which::Asked;
            anyhow::ensure!(
                !asks || !json,
                "--json asks nothing: add --unchanged, or --yes once you have seen what waits"
            );
            return runtime()?.block_on(sign_all(&client, tenant, connector, &key, which, json));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn adoption(
    tenant: &TenantId,
    key: &PolicyKey,
    old_key: Option<&Path>,
    succession: Option<&Path>,
) -> anyhow::Result<AdoptPolicyKey> {
    let succession = match (old_key, succession) {
        (Some(old), _) => Some(sign_succession(&key::read(old)?, &key.jwk())?),
        (None, Some(file)) => Some(super::call::read_text(file)?.trim().to_owned()),
        (None, None) => None,
    };
    Ok(AdoptPolicyKey { policy_key: key.jwk(), proof: sign_adoption(tenant, key)?, succession })
}

async fn waiting(client: &Client, tenant: &TenantId, connector: Option<&NodeId>) -> anyhow::Result<Vec<PendingList>> {
    let call = Call::new(Method::GET, format!("/tenants/{tenant}/policy/pending"), Show::Policy);
    let answer: PendingLists = read(client.run(&call).await?)?;
    Ok(answer.items.into_iter().filter(|item| connector.is_none_or(|only| *only == item.connector)).collect())
}

fn read<T: for<'de> Deserialize<'de>>(answer: Value) -> anyhow::Result<T> {
    T::deserialize(answer).context("control's answer is not what this release expects")
}

async fn sign_all(
    client: &Client,
    tenant: &TenantId,
    connector: Option<&NodeId>,
    own: &OwnKey,
    which: Which,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let show = Call::new(Method::GET, format!("/tenants/{tenant}/policy"), Show::Policy);
    let policy: PolicyView = read(client.run(&show).await?)?;
    anyhow::ensure!(
        policy.held_by == "customer" && policy.thumbprint == own.key.thumbprint(),
        "this is key {}; the tenant's policy key is {}, held by {}",
        own.key.thumbprint(),
        policy.thumbprint,
        policy.held_by
    );
    let (mut done, mut left) = (Vec::new(), false);
    for pending in waiting(client, tenant, connector).await? {
        let reading = sign::read(&pending, tenant, Some(own))?;
        if !json {
            say(&reading.words)?;
        }
        let agreed = match which {
            Which::All => {
                anyhow::ensure!(
                    reading.standing != Standing::Unrecorded,
                    "{} is missing, so that nobody can say what changes: look at the whole list once, without --yes",
                    own.record(tenant, &pending.connector).display()
                );
                true
            }
            Which::Unchanged => reading.standing == Standing::Renewal,
            Which::Asked => sign::agreed(pending.connector.as_str())?,
        };
        if !agreed {
            left = true;
            continue;
        }
        let jws = sign::sign(&pending, &reading, own, UnixTime::from(SystemTime::now()))?;
        let path = format!("/tenants/{tenant}/policy/lists/{}", pending.connector);
        let call = Call::post(path, &PutSignedList { jws }, Show::Policy)?;
        let stands: ListView = read(client.run(&call).await?)?;
        if !json {
            say(&format!("  signed; {} {}\n", stands.connector, stands.words))?;
        }
        done.push(stands);
    }
    if json {
        say(&format!("{}\n", serde_json::to_string_pretty(&json!({ "signed": done }))?))?;
    } else if done.is_empty() && !left {
        say("nothing waits for a signature\n")?;
    }
    Ok(if left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output is closed")
}
