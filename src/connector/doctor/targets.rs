//! What lies behind the connector: every single target that its allow-list names.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnetwork::IpNetwork;
use sluice_connector_agent::{Resolver, forbidden_address};
use sluice_connector_wire::{AllowRule, Protocol, Refusal};
use sluice_node_reach::DialGuard;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    line,
    report::{Report, Step},
};
use crate::config::connector::ConnectorConfig;

/// Targets that are tried at a time.
const AT_A_TIME: usize = 8;
/// Targets that are tried at all.
const MOST: usize = 200;
/// For a name.
const RESOLVE: Duration = Duration::from_secs(5);

/// Resolves, judges and dials each target that a rule names exactly.
pub(super) async fn look(report: &mut Report, config: &ConnectorConfig, rules: &[AllowRule]) {
    let resolver = config.dns().map_err(anyhow::Error::from).and_then(|dns| Resolver::new(&dns, AT_A_TIME, RESOLVE));
    let resolver = match resolver {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            report.add(Step::bad("targets", format!("{error:#}"), "correct the [dns] table"));
            return;
        }
    };
    let (exact, open): (Vec<&AllowRule>, Vec<&AllowRule>) = rules.iter().partition(|rule| is_exact(rule));
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let mut looking = JoinSet::new();
    for (index, rule) in exact.iter().take(MOST).enumerate() {
        let (rule, resolver, room) = (AllowRule::clone(rule), resolver.clone(), room.clone());
        let forbidden = config.forbidden_networks.clone();
        looking.spawn(async move {
            // The semaphore is never closed.
            let _place = room.acquire().await;
            (index, one(&rule, &resolver, &forbidden).await)
        });
    }
    let mut steps: Vec<(usize, Step)> = Vec::new();
    while let Some(looked) = looking.join_next().await {
        steps.extend(looked.ok());
    }
    steps.sort_by_key(|(index, _)| *index);
    for (_, step) in steps {
        report.add(step);
    }
    let left = open.len().saturating_add(exact.len().saturating_sub(MOST));
    if left > 0 {
        report.add(Step::skipped(
            "other targets",
            format!("{left} rules name no single target, or come after the first {MOST}"),
        ));
    }
}

/// Whether it names one host and one port.
fn is_exact(rule: &AllowRule) -> bool {
    rule.ports.from == rule.ports.to && !rule.host.starts_with("*.") && !rule.host.contains('/')
}

async fn one(rule: &AllowRule, resolver: &Resolver, forbidden: &[IpNetwork]) -> Step {
    let what = format!("target {}", rule.name());
    let target = format!("{}:{}:{}", rule.protocol.as_str(), rule.host, rule.ports.from);
    let addresses: Vec<IpAddr> = match resolver.resolve(&rule.host).await {
        Ok(addresses) => addresses,
        Err(Refusal::Busy) => return Step::skipped(what, format!("{target}: too many names at once")),
        Err(_) => {
            let todo = "check the name, and who should know it: [dns] in the configuration, else the system's resolver";
            return Step::bad(what, format!("{target} cannot be resolved"), todo);
        }
    };
    if let Some(address) = forbidden_address(forbidden, &addresses) {
        let said = format!("{target} is {address}, in forbidden_networks");
        return Step::bad(what, said, "take the target out of the resource, or its network out of forbidden_networks");
    }
    let permitted = match DialGuard::new(rule.networks.iter().copied()).permit(&addresses, rule.ports.from) {
        Ok(permitted) => permitted,
        Err(refused) => {
            return Step::bad(
                what,
                format!("{target}: {refused}"),
                "name its network in the resource, if this is the target",
            );
        }
    };
    if rule.protocol == Protocol::Udp {
        return Step::good(what, format!("{target} is {}; by UDP nobody answers unasked", permitted.first()));
    }
    match line::connect(permitted.addresses()).await {
        Ok(_) => Step::good(what, format!("{target} answers at {}", permitted.first())),
        Err(why) => Step::bad(
            what,
            format!("{target}: {why}"),
            "start the application, or open the way from this machine to it",
        ),
    }
}
