//! `sluice admin`: everything the admin API does, for people and scripts.

mod access;
mod call;
mod client;
mod exception;
mod fleet;
mod integration;
mod people;
mod place;
mod policy;
mod print;
mod resource;
mod stream;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Subcommand;

pub(crate) use self::print::table;
use self::{call::Call, client::Client};

/// Arguments of `sluice admin`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    server: Server,
    /// Print the API's JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  sluice admin --server https://console.sluice.test:8443 --root node-root.pem \\
      owner claim --link-file owner.link --save owner.token
  export ADMIN='sluice admin --server https://console.sluice.test:8443 --root node-root.pem --token-file owner.token'
  $ADMIN tenant add acme --name 'Acme Ltd' --login-host login.acme.test --est-host est.acme.test \\
      --checkin-host checkin.acme.test --feed-host feed.acme.test
  $ADMIN site add branch-1 --tenant acme --name 'Branch 1' --time-zone Europe/Berlin
  $ADMIN node add edge-1 --tenant acme --role edge --site branch-1 > edge-1.code
  $ADMIN hub import --tenant acme --file hubs.csv
Secrets are read from files or standard input (-), never from arguments.";

/// Which control, and who asks.
#[derive(clap::Args)]
struct Server {
    /// Control's console, https://host[:port]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Connect to this address instead of resolving the host of --server
    #[arg(long, global = true, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// Control's node root certificate (PEM): node-root.pem in its data directory
    #[arg(long, global = true, value_name = "FILE")]
    root: Option<PathBuf>,
    /// File with the API token, or - for standard input
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Become the owner of a fresh control
    #[command(subcommand)]
    Owner(access::Owner),
    /// Tenants
    #[command(subcommand)]
    Tenant(place::TenantDo),
    /// Sites of a tenant
    #[command(subcommand)]
    Site(place::SiteDo),
    /// Gateways, edges and connectors
    #[command(subcommand)]
    Node(fleet::NodeDo),
    /// Hubs
    #[command(subcommand)]
    Hub(fleet::HubDo),
    /// What runs through connectors now
    Streams(stream::Streams),
    /// One stream of those
    #[command(subcommand)]
    Stream(stream::StreamDo),
    /// What lies behind connectors
    #[command(subcommand)]
    Resource(resource::ResourceDo),
    /// What connectors may reach for a while: ends by itself, within 24 h
    #[command(subcommand)]
    Exception(exception::ExceptionDo),
    /// Who signs what connectors may reach: control, or you with a key of your own
    #[command(subcommand)]
    Policy(policy::PolicyDo),
    /// What users open
    #[command(subcommand)]
    App(place::AppDo),
    /// Accounts
    #[command(subcommand)]
    User(people::UserDo),
    /// Systems of record
    #[command(subcommand)]
    Integration(integration::IntegrationDo),
    /// Traffic policy of a tenant's edges
    #[command(subcommand)]
    Qos(place::QosDo),
    /// How hubs are recognised
    #[command(subcommand)]
    Class(place::ClassDo),
    /// API tokens
    #[command(subcommand)]
    Token(access::TokenDo),
    /// What was done, by whom, and whether the record is intact
    #[command(subcommand)]
    Audit(access::AuditDo),
}

impl What {
    fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Owner(what) => what.call(),
            Self::Tenant(what) => what.call(),
            Self::Site(what) => what.call(),
            Self::Node(what) => what.call(),
            Self::Hub(what) => what.call(),
            Self::Streams(what) => Ok(what.call()),
            Self::Stream(what) => Ok(what.call()),
            Self::Resource(what) => what.call(),
            Self::Exception(what) => what.call(),
            Self::Policy(what) => Ok(what.call()),
            Self::App(what) => what.call(),
            Self::User(what) => what.call(),
            Self::Integration(what) => what.call(),
            Self::Qos(what) => what.call(),
            Self::Class(what) => what.call(),
            Self::Token(what) => what.call(),
            Self::Audit(what) => what.call(),
        }
    }
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { server, json, what } = args;
    // More than one request, or none.
    if let What::Policy(what) = &what
        && let Some(act) = what.act()
    {
        return policy::run(act, || server.connect(true), json);
    }
    let call = what.call()?;
    let client = server.connect(call.needs_token)?;
    let answer = runtime()?.block_on(client.run(&call))?;
    print::answer(&call, &answer, json)?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

impl Server {
    fn connect(&self, needs_token: bool) -> anyhow::Result<Client> {
        let url = self.server.as_ref();
        let url = url.context("--server is missing: name control's console, https://host[:port]")?;
        let root = self.root.as_ref();
        let root = root.context("--root is missing: name the file with control's node root certificate")?;
        let token = match (needs_token, &self.token_file) {
            (false, _) => None,
            (true, Some(path)) => Some(call::read_secret(path)?),
            (true, None) => anyhow::bail!("--token-file is missing: name the file with your API token"),
        };
        Client::new(url, self.address, root, token)
    }
}
