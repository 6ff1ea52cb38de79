//! Integrations.

use std::path::PathBuf;

use clap::Subcommand;
use hyper::Method;
use sluice_control_server::admin_api::{PutCredential, PutIntegration};
use sluice_node_identity::{IntegrationId, TenantId};

use super::{
    call::{Call, Show, read_secret, read_text},
    client::encode,
};

#[derive(Subcommand)]
pub(super) enum IntegrationDo {
    /// Add an integration or replace its declaration
    Put {
        id: IntegrationId,
        #[arg(long)]
        tenant: TenantId,
        /// The declaration (TOML)
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Put the service account's login into the wallet; nobody can read it back
    Credential {
        id: IntegrationId,
        #[arg(long)]
        tenant: TenantId,
        #[arg(long)]
        login: String,
        /// File with the password on its first line, or - for standard input
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Run a full sync now and wait for it
    Sync {
        id: IntegrationId,
        #[arg(long)]
        tenant: TenantId,
    },
    /// Data-cache explorer, for full administrators of the tenant
    Cache {
        id: IntegrationId,
        table: String,
        #[arg(long)]
        tenant: TenantId,
        /// Most rows to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// List integrations
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
}

impl IntegrationDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        let base = |tenant: TenantId, id: &IntegrationId| format!("/tenants/{tenant}/integrations/{id}");
        match self {
            Self::Put { id, tenant, file } => {
                let body = PutIntegration { declaration: read_text(&file)? };
                Call::put(base(tenant, &id), &body, Show::Done(format!("integration {id} stored")))
            }
            Self::Credential { id, tenant, login, password_file } => {
                let body = PutCredential { login, password: read_secret(&password_file)? };
                let path = format!("{}/credential", base(tenant, &id));
                Call::put(path, &body, Show::Done("credential stored in the wallet".to_owned()))
            }
            Self::Sync { id, tenant } => {
                let show = Show::Object(&["rows", "changed", "cards"]);
                Ok(Call::new(Method::POST, format!("{}/sync", base(tenant, &id)), show))
            }
            Self::Cache { id, table, tenant, limit } => {
                let path = format!("{}/cache/{}?limit={limit}", base(tenant, &id), encode(&table));
                Ok(Call::new(Method::GET, path, Show::Table(&[])))
            }
            Self::List { tenant, limit } => {
                Ok(Call::list(format!("/tenants/{tenant}/integrations"), &["id", "synced", "rows", "error"])
                    .up_to(limit))
            }
        }
    }
}
