//! The owner's claim, tokens and the audit record.

use std::path::PathBuf;

use clap::Subcommand;
use hyper::Method;
use sluice_control_server::admin_api::{AddToken, ClaimOwner, Rights};
use sluice_node_identity::TenantId;

use super::call::{Call, Show, read_secret};

#[derive(Subcommand)]
pub(super) enum Owner {
    /// Claim ownership with the link that `sluice control init` printed; prints the owner's API token
    Claim {
        /// File with the link, or - for standard input
        #[arg(long, value_name = "FILE")]
        link_file: PathBuf,
        /// Write the token to this new file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
        /// What to call the token
        #[arg(long)]
        label: Option<String>,
    },
}

impl Owner {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        let Self::Claim { link_file, save, label } = self;
        let body = ClaimOwner { secret: read_secret(&link_file)?, label };
        let call = Call::post("/owner".to_owned(), &body, Show::Alone("token"))?;
        Ok(Call { needs_token: false, save, ..call })
    }
}

#[derive(Subcommand)]
pub(super) enum TokenDo {
    /// Make a token; prints it once
    Add {
        /// Good in this tenant only; a platform owner's token without it
        #[arg(long)]
        tenant: Option<TenantId>,
        /// For people
        #[arg(long)]
        label: String,
        /// May also read data caches (never a credential)
        #[arg(long)]
        full: bool,
        /// Days it is good for
        #[arg(long, default_value_t = 30)]
        days: u32,
        /// Write the token to this new file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// List a tenant's tokens
    List {
        #[arg(long)]
        tenant: TenantId,
    },
    /// Revoke a token at once
    Revoke {
        /// Its id, as listed
        id: String,
    },
}

impl TokenDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add { tenant, label, full, days, save } => {
                let path = tenant.map_or("/tokens".to_owned(), |tenant| format!("/tenants/{tenant}/tokens"));
                let rights = Some(if full { Rights::FullAdministrator } else { Rights::Administrator });
                let body = AddToken { label, rights, days: Some(days) };
                Ok(Call { save, ..Call::post(path, &body, Show::Alone("token"))? })
            }
            Self::List { tenant } => {
                let show = Show::Table(&["id", "label", "rights", "expires"]);
                Ok(Call::new(Method::GET, format!("/tenants/{tenant}/tokens"), show))
            }
            Self::Revoke { id } => {
                let path = format!("/tokens/{}", super::client::encode(&id));
                Ok(Call::new(Method::DELETE, path, Show::Done(format!("token {id} revoked"))))
            }
        }
    }
}

#[derive(Subcommand)]
pub(super) enum AuditDo {
    /// Show the record: a tenant's, or the platform's without --tenant
    Show {
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Walk the chain and say whether it is intact
    Verify {
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

impl AuditDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        let base = |tenant: Option<TenantId>| tenant.map_or(String::new(), |tenant| format!("/tenants/{tenant}"));
        Ok(match self {
            Self::Show { tenant } => {
                Call::list(format!("{}/audit", base(tenant)), &["seq", "at", "actor", "act", "subject", "detail"])
            }
            Self::Verify { tenant } => {
                let show = Show::Object(&["intact", "entries", "problem"]);
                Call::new(Method::GET, format!("{}/audit/verify", base(tenant)), show)
            }
        })
    }
}
