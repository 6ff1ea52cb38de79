//! `sluice connector explain`: which rule decides, by the list this connector keeps.

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::json;
use sluice_connector_agent::forbidden_address;
use sluice_connector_wire::{
    AllowList, AllowListKeeper, ConnectorDocument, Decision, Explanation, ListRefused, Question, Target, explain,
};
use sluice_node_client::Kept;
use sluice_node_identity::{ResourceId, Role, UnixTime};
use sluice_node_reach::DialGuard;

use crate::{
    config::{self, ConfigError, connector::ConnectorConfig},
    node,
};

/// How often what is on disk is read again while a running agent replaces it.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
const UNUSED: &str = "the connector does not use the list it keeps";

/// Arguments of `sluice connector explain`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What would be dialled
    #[arg(long, value_name = "[tcp:|udp:]HOST:PORT", value_parser = target)]
    to: Target,
    /// Who would ask: control, or a gateway's name
    #[arg(long = "as", value_name = "CALLER")]
    caller: String,
    /// As which resource; any without it
    #[arg(long)]
    resource: Option<ResourceId>,
    /// The connector's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/connector.toml")]
    config: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn target(text: &str) -> Result<Target, String> {
    let named = text.starts_with("tcp:") || text.starts_with("udp:");
    let target = if named { text.parse() } else { format!("tcp:{text}").parse() };
    target.map_err(|error: sluice_connector_wire::BadTarget| error.to_string())
}

/// Exit status when nothing can be said: scripts must not take it for "denied".
const UNKNOWN: u8 = 2;

/// Prints what every rule says and what decides. Success means allowed, 1 denied, [`UNKNOWN`] neither.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match decide(args) {
        Err(error) if !error.is::<ConfigError>() => {
            tracing::error!("{error:#}");
            Ok(ExitCode::from(UNKNOWN))
        }
        decided => decided,
    }
}

fn decide(args: &Args) -> anyhow::Result<ExitCode> {
    let config: ConnectorConfig = config::load(&args.config)?;
    let now = UnixTime::from(SystemTime::now());
    let list = kept_list(&config, now)?;
    let question = Question { caller: &args.caller, resource: args.resource.as_ref(), target: &args.to };
    let explanation = explain(&list, &question, now);
    let guard = guard(&explanation, &args.to, &config.forbidden_networks);
    let allowed = explanation.allowed() && guard.is_none();
    let text = if args.json {
        let list = json!({ "epoch": list.epoch, "version": list.version, "not_after": list.not_after });
        let answer = json!({
            "allowed": allowed, "rules": explanation.rules, "decision": explanation.decision,
            "dial_guard": guard, "list": list,
        });
        format!("{}\n", serde_json::to_string_pretty(&answer)?)
    } else {
        words(&list, &explanation, guard.as_deref())
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output is closed")?;
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The list of the last good document, believed on the same grounds as by the agent. One that has ended is shown too.
pub(super) fn kept_list(config: &ConnectorConfig, now: UnixTime) -> anyhow::Result<AllowList> {
    for _ in 0..TRIES {
        match kept_list_once(config, now)? {
            Ok(list) => return Ok(list),
            // A running agent writes the list's number and key first, then the document.
            Err(ListRefused::GoesBack { .. } | ListRefused::OldPolicyKey) => thread::sleep(PAUSE),
            Err(refused) => return Err(refused).context(UNUSED),
        }
    }
    kept_list_once(config, now)?.context(UNUSED)
}

fn kept_list_once(config: &ConnectorConfig, now: UnixTime) -> anyhow::Result<Result<AllowList, ListRefused>> {
    let Kept { joined, document, .. } = sluice_node_client::kept(&config.state_dir)?;
    anyhow::ensure!(joined.role == Role::Connector, "{} belongs to a {}", config.state_dir.display(), joined.role);
    let name = node::spiffe(&joined).to_string();
    let (position, used) = sluice_connector_agent::kept(&config.state_dir, &name, &joined.policy_thumbprint)?.unzip();
    // The agent keeps what it uses beside its number; the node's copy comes later, or never if it dies in between.
    let document = match used.flatten() {
        Some(document) => document,
        None => {
            let sent = document.context("this connector has no document yet; does it run, and reach control?")?;
            ConnectorDocument::deserialize(&sent.document).context("the document on disk is damaged")?
        }
    };
    let mut keeper = AllowListKeeper::new(joined.tenant, joined.id, joined.policy_thumbprint, position);
    let offered = match keeper.offer(&document.allow_list, now) {
        Err(ListRefused::Expired(ago)) => keeper.offer(&document.allow_list, UnixTime(now.0.saturating_sub(ago))),
        offered => offered,
    };
    if let Err(refused) = offered {
        return Ok(Err(refused));
    }
    Ok(Ok(keeper.current().context("no list came into use")?.list().clone()))
}

/// Why the dial guard would refuse an address; a name is judged only when it has been resolved.
fn guard(explanation: &Explanation, target: &Target, forbidden: &[IpNetwork]) -> Option<String> {
    let Decision::Allowed { networks, .. } = &explanation.decision else { return None };
    let address = target.host.parse().ok()?;
    if forbidden_address(forbidden, &[address]).is_some() {
        return Some(format!("{address} lies in forbidden_networks of this connector's configuration"));
    }
    let refused = DialGuard::new(networks.iter().copied()).permit(&[address], target.port).err()?;
    Some(refused.to_string())
}

fn words(list: &AllowList, explanation: &Explanation, guard: Option<&str>) -> String {
    let mut text = String::new();
    for judged in &explanation.rules {
        text.push_str(&format!("{}\n    {}\n", judged.covers, judged.verdict));
    }
    let ends = sluice_connector_wire::when(list.not_after);
    text.push_str(&format!("list version {} of epoch {}, good until {ends}\n", list.version, list.epoch));
    text.push_str(&format!("{}\n", explanation.decision));
    if let Some(refused) = guard {
        text.push_str(&format!("but the dial guard refuses it: {refused}\n"));
    }
    text
}
