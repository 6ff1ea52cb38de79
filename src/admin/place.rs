//! Tenants with their traffic policies, sites and apps.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use ipnetwork::IpNetwork;
use sluice_control_domain::AppPlace;
use sluice_control_server::admin_api::{AddTenant, AppView, PutClasses, SiteView};
use sluice_discovery_rules::HubClass;
use sluice_gateway_access::Upstream;
use sluice_node_identity::{AppId, ResourceId, SiteId, TenantId};
use sluice_qos_plan::QosPolicy;

use super::call::{Call, Show, read_data};

const TENANT: &[&str] = &["id", "display_name", "login_host", "est_host", "checkin_host", "feed_host", "policy_epoch"];

#[derive(Subcommand)]
pub(super) enum TenantDo {
    /// Add a tenant and make its keys
    Add {
        id: TenantId,
        /// For people
        #[arg(long = "name", alias = "display-name", value_name = "NAME")]
        display_name: String,
        /// Where its users log in; its parent domain is the tenant's
        #[arg(long)]
        login_host: String,
        /// Its EST endpoint
        #[arg(long)]
        est_host: String,
        /// Its edges' check-in doors
        #[arg(long)]
        checkin_host: String,
        /// Where its users find their feed
        #[arg(long)]
        feed_host: String,
    },
    /// List tenants
    List,
    /// Show one tenant
    Show { id: TenantId },
    /// Print the tenant's hub root certificate (PEM): what hubs trust
    Root { id: TenantId },
}

impl TenantDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add { id, display_name, login_host, est_host, checkin_host, feed_host } => {
                let done = Show::Done(format!("tenant {id} added"));
                let body = AddTenant { id, display_name, login_host, est_host, checkin_host, feed_host };
                Call::post("/tenants".to_owned(), &body, done)
            }
            Self::List => Ok(Call::list("/tenants".to_owned(), TENANT)),
            Self::Show { id } => Ok(Call::new(Method::GET, format!("/tenants/{id}"), Show::Object(TENANT))),
            Self::Root { id } => Ok(Call::new(Method::GET, format!("/tenants/{id}"), Show::Alone("hub_root"))),
        }
    }
}

#[derive(Subcommand)]
pub(super) enum SiteDo {
    /// Add a site
    Add {
        id: SiteId,
        #[arg(long)]
        tenant: TenantId,
        /// For people
        #[arg(long = "name", alias = "display-name", value_name = "NAME")]
        display_name: String,
        /// IANA name, e.g. Europe/Berlin
        #[arg(long, default_value = "UTC")]
        time_zone: String,
    },
    /// List sites
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
}

impl SiteDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add { id, tenant, display_name, time_zone } => {
                let done = Show::Done(format!("site {id} added"));
                let body = SiteView { id, display_name, time_zone };
                Call::post(format!("/tenants/{tenant}/sites"), &body, done)
            }
            Self::List { tenant, limit } => {
                Ok(Call::list(format!("/tenants/{tenant}/sites"), &["id", "display_name", "time_zone"]).up_to(limit))
            }
        }
    }
}

#[derive(Subcommand)]
pub(super) enum QosDo {
    /// Replace a tenant's traffic policy
    Set {
        #[arg(long)]
        tenant: TenantId,
        /// {"rules": [{"when": {"transport": "udp", "ports": [2112, 2112], "network": null}, "class": "interactive"}]},
        /// as JSON, or as TOML in a file named *.toml
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

impl QosDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        let Self::Set { tenant, file } = self;
        let policy: QosPolicy = serde_json::from_value(read_data(&file)?)
            .with_context(|| format!("{} is no traffic policy", file.display()))?;
        Call::put(format!("/tenants/{tenant}/qos"), &policy, Show::Done("traffic policy replaced".to_owned()))
    }
}

#[derive(Subcommand)]
pub(super) enum ClassDo {
    /// Replace a tenant's hub classes; the first match counts
    Set {
        #[arg(long)]
        tenant: TenantId,
        /// NAME=PREFIX: hubs whose DHCP vendor class (option 60) begins with PREFIX; may be repeated
        #[arg(long = "class", value_name = "NAME=PREFIX", required_unless_present = "file")]
        classes: Vec<String>,
        /// {"classes": [{"name": "thin", "vendor_class": "SluiceHub"}]}, as JSON, or as TOML in a file named *.toml
        #[arg(long, value_name = "FILE", conflicts_with = "classes")]
        file: Option<PathBuf>,
    },
}

impl ClassDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        let Self::Set { tenant, classes, file } = self;
        let class = |text: String| {
            let (name, prefix) = text.split_once('=').with_context(|| format!("\"{text}\" is not NAME=PREFIX"))?;
            anyhow::Ok(HubClass { name: name.to_owned(), vendor_class: prefix.to_owned() })
        };
        let body = match file {
            Some(file) => serde_json::from_value(read_data(&file)?)
                .with_context(|| format!("{} holds no hub classes", file.display()))?,
            None => PutClasses { classes: classes.into_iter().map(class).collect::<Result<_, _>>()? },
        };
        Call::put(format!("/tenants/{tenant}/classes"), &body, Show::Done("hub classes replaced".to_owned()))
    }
}

#[derive(Subcommand)]
pub(super) enum AppDo {
    /// Add an app
    Add(Box<NewApp>),
    /// Remove an app; its resource stays
    Remove {
        id: AppId,
        #[arg(long)]
        tenant: TenantId,
    },
    /// List apps
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
}

#[derive(clap::Args)]
pub(super) struct NewApp {
    id: AppId,
    #[arg(long)]
    tenant: TenantId,
    /// For people
    #[arg(long = "name", alias = "display-name", value_name = "NAME")]
    display_name: String,
    /// Its host name, below the tenant's domain
    #[arg(long)]
    host: String,
    /// The resource it is, behind connectors
    #[arg(long, conflicts_with = "direct", required_unless_present = "direct")]
    resource: Option<ResourceId>,
    /// Host header the application expects, when not its own host
    #[arg(long, requires = "resource")]
    host_header: Option<String>,
    /// host:port that the gateway itself dials
    #[arg(long, value_name = "HOST:PORT")]
    direct: Option<String>,
    /// TLS to that address, with this name in its certificate
    #[arg(long, requires = "direct")]
    tls_server_name: Option<String>,
    /// Own network that address may lie in; may be repeated
    #[arg(long = "network", value_name = "CIDR", requires = "direct")]
    networks: Vec<IpNetwork>,
    /// Group that may open it; may be repeated; none means nobody
    #[arg(long = "group")]
    groups: Vec<String>,
    /// Header under which the application is told the login name, such as X-Remote-User
    #[arg(long)]
    user_header: Option<String>,
}

impl AppDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add(app) => app.call(),
            Self::Remove { id, tenant } => {
                let done = Show::Done(format!("app {id} removed"));
                Ok(Call::new(Method::DELETE, format!("/tenants/{tenant}/apps/{id}"), done))
            }
            Self::List { tenant, limit } => Ok(Call::list(
                format!("/tenants/{tenant}/apps"),
                &["id", "display_name", "host", "groups", "user_header"],
            )
            .up_to(limit)),
        }
    }
}

impl NewApp {
    fn call(self) -> anyhow::Result<Call> {
        let Self { id, tenant, display_name, host, resource, host_header, direct, .. } = self;
        let place = match (resource, direct) {
            (Some(resource), _) => AppPlace::Resource { resource, host_header },
            (None, Some(address)) => AppPlace::Direct(Upstream::Direct {
                address,
                tls_server_name: self.tls_server_name,
                networks: self.networks,
            }),
            (None, None) => anyhow::bail!("name --resource or --direct"),
        };
        let done = Show::Done(format!("app {id} added"));
        let body = AppView { id, display_name, host, place, groups: self.groups, user_header: self.user_header };
        Call::post(format!("/tenants/{tenant}/apps"), &body, done)
    }
}
