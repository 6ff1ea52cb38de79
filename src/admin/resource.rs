//! Resources: what connectors may reach, and when.

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use ipnetwork::IpNetwork;
use sluice_connector_wire::{ClassPair, Ports, Target, WeeklyWindow};
use sluice_control_server::admin_api::ResourceView;
use sluice_node_identity::{ResourceId, SiteId, TenantId};

use super::call::{Call, Show};

#[derive(Subcommand)]
pub(super) enum ResourceDo {
    /// Add a resource
    Add(Box<NewResource>),
    /// Replace a resource: say all of it again
    Change(Box<NewResource>),
    /// Remove a resource that no app and no integration names. Connectors cut running streams that need it (where you hold
    /// the policy key: once you have signed)
    Remove {
        id: ResourceId,
        #[arg(long)]
        tenant: TenantId,
    },
    /// List resources
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
}

#[derive(clap::Args)]
pub(super) struct NewResource {
    id: ResourceId,
    #[arg(long)]
    tenant: TenantId,
    /// Where its connectors stand
    #[arg(long)]
    site: SiteId,
    /// What an app or an integration dials, [tcp:|udp:]host[:port]
    #[arg(long)]
    target: String,
    /// tcp or udp, when the target does not say
    #[arg(long, value_name = "tcp|udp")]
    protocol: Option<String>,
    /// Ports it may be reached at, such as 1433-1434; the target's alone without it
    #[arg(long)]
    ports: Option<Ports>,
    /// Hosts it may be reached at: *.suffix, or a network such as 10.1.0.0/16; the target's alone without it
    #[arg(long, value_name = "PATTERN")]
    hosts: Option<String>,
    /// Hours in UTC at which it may be reached, such as "mon-fri 06:00-18:00"; may be repeated; always without it
    #[arg(long, value_name = "DAYS HH:MM-HH:MM")]
    times: Vec<WeeklyWindow>,
    /// Own network the target may lie in, such as 10.1.0.0/16; may be repeated
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<IpNetwork>,
    /// Users reach it through a gateway
    #[arg(long)]
    for_users: bool,
    /// Control reaches it, for integrations
    #[arg(long)]
    for_control: bool,
    /// Traffic of what users do there: interactive, standard or bulk
    #[arg(long, default_value_t)]
    class: ClassPair,
}

impl ResourceDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add(new) => {
                let done = Show::Done(format!("resource {} added", new.id));
                let path = format!("/tenants/{}/resources", new.tenant);
                Call::post(path, &new.view()?, done)
            }
            Self::Change(new) => {
                let done = Show::Done(format!("resource {} changed", new.id));
                let path = format!("/tenants/{}/resources/{}", new.tenant, new.id);
                Call::put(path, &new.view()?, done)
            }
            Self::Remove { id, tenant } => {
                let done = Show::Done(format!("resource {id} removed"));
                Ok(Call::new(Method::DELETE, format!("/tenants/{tenant}/resources/{id}"), done))
            }
            Self::List { tenant, limit } => {
                let columns = &[
                    "id",
                    "site",
                    "target",
                    "hosts",
                    "ports",
                    "times",
                    "networks",
                    "for_users",
                    "for_control",
                    "class",
                ];
                Ok(Call::list(format!("/tenants/{tenant}/resources"), columns).up_to(limit))
            }
        }
    }
}

impl NewResource {
    fn view(self) -> anyhow::Result<ResourceView> {
        let target = target(&self.target, self.protocol.as_deref(), self.ports)?;
        let Self { id, site, networks, for_users, for_control, class, hosts, .. } = self;
        let ports = self.ports.map(|ports| ports.to_string());
        let times = self.times.iter().map(ToString::to_string).collect();
        let target = target.to_string();
        Ok(ResourceView { id, site, target, networks, for_users, for_control, class, hosts, ports, times, waits: None })
    }
}

/// The target, whose transport and port may be said elsewhere.
pub(super) fn target(text: &str, protocol: Option<&str>, ports: Option<Ports>) -> anyhow::Result<Target> {
    let said = ["tcp", "udp"].into_iter().find(|name| text.starts_with(&format!("{name}:")));
    if let (Some(said), Some(protocol)) = (said, protocol) {
        anyhow::ensure!(said == protocol, "--target says {said}, --protocol {protocol}");
    }
    let full = if said.is_some() { text.to_owned() } else { format!("{}:{text}", protocol.unwrap_or("tcp")) };
    match (full.parse::<Target>(), ports) {
        (Ok(target), _) => Ok(target),
        (Err(_), Some(ports)) => {
            format!("{full}:{}", ports.from).parse().with_context(|| format!("\"{text}\" is no target"))
        }
        (Err(error), None) => Err(error).with_context(|| format!("\"{text}\" is no target")),
    }
}
