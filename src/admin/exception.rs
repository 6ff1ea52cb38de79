//! Exceptions: what connectors may reach for a while.

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use ipnetwork::IpNetwork;
use sluice_control_server::admin_api::AddException;
use sluice_node_identity::{ResourceId, SiteId, TenantId};

use super::{
    call::{Call, Show},
    resource::target,
};

const COLUMNS: &[&str] = &["id", "site", "resource", "target", "callers", "ends", "why", "by"];

#[derive(Subcommand)]
pub(super) enum ExceptionDo {
    /// Add an exception; connectors end it themselves, within 24 h at the latest
    Add(Box<NewException>),
    /// List exceptions
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
    /// End an exception now. Connectors cut running streams that need it (where you hold the policy key: once you have
    /// signed)
    Remove {
        id: ResourceId,
        #[arg(long)]
        tenant: TenantId,
    },
}

#[derive(clap::Args)]
pub(super) struct NewException {
    #[arg(long)]
    tenant: TenantId,
    /// Whose connectors
    #[arg(long)]
    site: SiteId,
    /// What may be dialled, [tcp:|udp:]host:port
    #[arg(long)]
    target: String,
    /// Who may ask: control, or a gateway's name; may be repeated
    #[arg(long = "caller", value_name = "control|GATEWAY", required = true)]
    callers: Vec<String>,
    /// How long, such as 90m or 4h; at most 24h
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    seconds: u64,
    /// Why, for people and the audit
    #[arg(long)]
    why: String,
    /// A resource at the site that it widens. Without it the exception is a resource of its own: apps and integrations
    /// may name the id that is printed
    #[arg(long)]
    resource: Option<ResourceId>,
    /// Own network the target may lie in; may be repeated; those of the widened resource without it
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<IpNetwork>,
}

impl ExceptionDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add(new) => {
                let NewException { tenant, site, callers, seconds, why, resource, networks, .. } = *new;
                let target = target(&new.target, None, None)?.to_string();
                let body = AddException { site, target, callers, seconds, why, resource, networks };
                Call::post(format!("/tenants/{tenant}/exceptions"), &body, Show::Object(COLUMNS))
            }
            Self::List { tenant, limit } => {
                Ok(Call::list(format!("/tenants/{tenant}/exceptions"), COLUMNS).up_to(limit))
            }
            Self::Remove { id, tenant } => {
                let done = Show::Done(format!("exception {id} removed"));
                Ok(Call::new(Method::DELETE, format!("/tenants/{tenant}/exceptions/{id}"), done))
            }
        }
    }
}

/// `90s`, `30m`, `4h`, `1h30m`. Whether it is too long is for control, and for every connector, to say.
pub(super) fn seconds(text: &str) -> anyhow::Result<u64> {
    let wrong = || format!("\"{text}\" is no time; write 90m, 4h or 1h30m");
    let (mut rest, mut seconds) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at_checked(digits).with_context(wrong)?;
        let mut units = unit.chars();
        let each = match units.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            _ => anyhow::bail!(wrong()),
        };
        let number: u64 = number.parse().with_context(wrong)?;
        seconds = seconds.checked_add(number.checked_mul(each).with_context(wrong)?).with_context(wrong)?;
        rest = units.as_str();
    }
    anyhow::ensure!(seconds > 0, wrong());
    Ok(seconds)
}
