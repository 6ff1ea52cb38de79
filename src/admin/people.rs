//! Accounts.

use std::path::PathBuf;

use clap::Subcommand;
use hyper::Method;
use sluice_control_domain::UserRole;
use sluice_control_server::admin_api::AddUser;
use sluice_node_identity::{TenantId, UserId};

use super::call::{Call, Show, read_secret};

#[derive(Subcommand)]
pub(super) enum UserDo {
    /// Add a user
    Add {
        id: UserId,
        #[arg(long)]
        tenant: TenantId,
        /// Mail address; viewer rules compare it
        #[arg(long)]
        email: String,
        /// For people
        #[arg(long = "name", alias = "display-name", value_name = "NAME")]
        display_name: String,
        /// File with the password on its first line, or - for standard input
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// Group; may be repeated
        #[arg(long = "group")]
        groups: Vec<String>,
        /// All integration configuration and cache content, no stored credential
        #[arg(long)]
        full_administrator: bool,
    },
    /// List users
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Disable an account; its sessions end within a second
    Disable {
        id: UserId,
        #[arg(long)]
        tenant: TenantId,
    },
}

impl UserDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add { id, tenant, email, display_name, password_file, groups, full_administrator } => {
                let role = Some(if full_administrator { UserRole::FullAdministrator } else { UserRole::User });
                let done = Show::Done(format!("user {id} added"));
                let password = read_secret(&password_file)?;
                let body = AddUser { id, email, display_name, password, groups, role };
                Call::post(format!("/tenants/{tenant}/users"), &body, done)
            }
            Self::List { tenant, limit } => Ok(Call::list(
                format!("/tenants/{tenant}/users"),
                &["id", "email", "display_name", "groups", "role", "disabled"],
            )
            .up_to(limit)),
            Self::Disable { id, tenant } => {
                let done = Show::Done(format!("user {id} disabled"));
                Ok(Call::new(Method::POST, format!("/tenants/{tenant}/users/{id}/disable"), done))
            }
        }
    }
}
