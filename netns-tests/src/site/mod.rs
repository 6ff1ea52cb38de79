//! A company with two gateways and a data centre with two connectors behind a firewall: the stage for what can happen
//! to tunnels.

mod fleet;
mod places;
mod traffic;
mod web_proxy;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use self::{fleet::Fleet, places::CONTROL};
pub use self::{
    fleet::NodeKind,
    places::{APP_HOSTS, Places},
    traffic::{Fetch, Outcome, Pulse},
    web_proxy::KerberosProxy,
};
use crate::{
    admin::{Admin, CONTROL_PORT},
    authority::Authority,
    browser::Browser,
    process::Process,
    roundup,
    topology::Topology,
};

/// Size of the file that long downloads fetch, bytes.
pub const BIG: usize = 48 * 1024 * 1024;
/// What bob types at the gateway.
const PASSWORD: &str = "bob-at-the-gateway";
/// Longest wait for anything of this stage to come up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fields drop in order: programs before namespaces, folders last.
pub struct Site {
    fleet: Fleet,
    admin: Admin,
    /// A web server of somebody else's, in the data centre.
    app: Option<Process>,
    /// Namespaces.
    pub places: Places,
    authority: Authority,
    _topology: Topology,
    folder: TempDir,
}

/// What a stage is made of.
#[derive(Clone, Copy, Debug)]
pub struct Cast<'a> {
    /// The `sluice` binary.
    pub sluice: &'a Path,
    /// How many gateways: 1 or 2.
    pub gateways: usize,
    /// How many connectors: 1 or 2.
    pub connectors: usize,
}

impl Site {
    /// Builds everything and waits until bob, signed in, gets a page through the tunnel.
    ///
    /// # Errors
    /// Not root, or a program does not come up.
    pub fn build(cast: &Cast<'_>) -> Result<Self> {
        Self::prepare(cast, |_| Ok(String::new())).and_then(|mut site| {
            site.wait_for_page(0)?;
            Ok(site)
        })
    }

    /// As [`Self::build`], with something done to the places before any node starts; what it gives is added to every
    /// connector's configuration. Does not wait for the tunnel.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn prepare(cast: &Cast<'_>, before: impl FnOnce(&Self) -> Result<String>) -> Result<Self> {
        let mut topology = Topology::new()?;
        let places = Places::build(&mut topology).context("cannot build the namespaces")?;
        let folder = roundup::work_folder()?;
        fs::create_dir_all(folder.path().join("logs"))?;
        let authority = Authority::create(&folder.path().join("authority"), &APP_HOSTS)?;
        let fleet = Fleet::new(cast.sluice, folder.path())?;
        let admin = Admin::new(cast.sluice, &places.cloud, folder.path(), CONTROL.v4(CONTROL_PORT));
        let mut site = Self { fleet, admin, app: None, places, authority, _topology: topology, folder };
        site.app = Some(site.start_app()?);
        let connector = before(&site)?;
        site.fleet.start_control(&site.places, &site.admin)?;
        site.fleet.describe(&site.admin, PASSWORD)?;
        for number in 0..cast.gateways {
            site.fleet.join_gateway(&site.places, &site.admin, &site.authority, number)?;
        }
        for number in 0..cast.connectors {
            site.fleet.join_connector(&site.places, &site.admin, number, &connector)?;
        }
        Ok(site)
    }

    /// `python3 -m http.server` with a small and a big file.
    fn start_app(&self) -> Result<Process> {
        let root = self.folder.path().join("files");
        fs::create_dir_all(&root)?;
        fs::write(root.join("small"), "hello from the data centre\n")?;
        let mut big = Vec::with_capacity(BIG);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while big.len() < BIG {
            // Bytes that repeat nowhere, so that a lost or doubled piece shows.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            big.extend_from_slice(&state.to_be_bytes());
        }
        fs::write(root.join("big"), &big)?;
        let mut server = self.places.app.command("/usr/bin/python3");
        server.args(["-m", "http.server", "8080", "--bind", "10.31.0.20", "--directory"]).arg(&root);
        let mut server = Process::start("app", server, &self.logs())?;
        server.wait_for_port(&self.places.app, "10.31.0.20:8080".parse()?, PATIENCE)?;
        Ok(server)
    }

    /// Where the big file lies, to compare with.
    #[must_use]
    pub fn big(&self) -> PathBuf {
        self.folder.path().join("files/big")
    }

    /// Where every program's log is.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// A folder for a test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Bob's browser, signed in by way of gateway `number`.
    ///
    /// # Errors
    /// The login does not work.
    pub fn sign_in(&self, number: usize) -> Result<Browser> {
        let bob = Browser::new(
            self.places.user(number),
            &self.folder.path().join(format!("bob-{number}")),
            self.authority.root(),
        )?;
        let asked = bob.open(traffic::SMALL)?;
        if asked.url.starts_with("https://files.acme.test/") {
            return Ok(bob);
        }
        let form = asked.form_with("password")?;
        let page = bob.send(&form, &[("login", "bob"), ("password", PASSWORD)])?;
        ensure!(page.url.starts_with("https://files.acme.test/"), "after the login bob is at {}", page.url);
        Ok(bob)
    }

    /// Signs in by way of gateway `number` and waits until a page comes through a tunnel.
    ///
    /// # Errors
    /// None within [`PATIENCE`]; the message holds the logs' ends.
    pub fn wait_for_page(&mut self, number: usize) -> Result<Browser> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A gateway without its document answers nobody yet.
            let seen = self.sign_in(number).and_then(|bob| Ok((bob.open(traffic::SMALL)?, bob)));
            let why = match seen {
                Ok((page, bob)) if page.status == 200 && page.says("hello from the data centre") => return Ok(bob),
                Ok((page, _)) => format!("{} {}", page.status, page.body.chars().take(300).collect::<String>()),
                Err(error) => format!("{error:#}"),
            };
            ensure!(Instant::now() < deadline, "no page within {PATIENCE:?}: {why}\n{}", self.fleet.tails());
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Fetches the big file slowly enough to last `seconds`, in the background.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn download(&self, number: usize, seconds: u32) -> Result<Fetch> {
        let jar = self.folder.path().join(format!("bob-{number}/cookies"));
        Fetch::start(self.places.user(number), &jar, self.authority.root(), self.folder.path(), BIG, seconds)
    }

    /// Asks for the small page every 50 ms until told to stop.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn pulse(&self, number: usize) -> Result<Pulse> {
        let jar = self.folder.path().join(format!("bob-{number}/cookies"));
        Pulse::start(self.places.user(number), &jar, self.authority.root())
    }

    /// What connector `number` says of itself on loopback.
    ///
    /// # Errors
    /// It does not answer.
    pub fn health(&self, number: usize) -> Result<Value> {
        crate::health::health(self.places.connector(number))
    }

    /// Waits until what connector `number` says of itself passes `wanted`.
    ///
    /// # Errors
    /// Not within [`PATIENCE`].
    pub fn wait_health(&mut self, number: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health(number);
            match &health {
                Ok(health) if wanted(health) => return Ok(health.clone()),
                _ => {}
            }
            ensure!(
                Instant::now() < deadline,
                "connector {number}: not {what} within {PATIENCE:?}: {health:?}\n{}",
                self.fleet.tails()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The administrator.
    ///
    /// # Errors
    /// The subcommand failed.
    pub fn admin(&self, words: &[&str]) -> Result<Value> {
        self.admin.tenant(words)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It was gone already.
    pub fn kill(&mut self, kind: NodeKind) -> Result<()> {
        self.fleet.take(kind)?.kill()
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// It did not end, or not with 0.
    pub fn stop(&mut self, kind: NodeKind) -> Result<()> {
        let status = self.fleet.take(kind)?.stop()?;
        ensure!(status.success(), "{kind:?} ended with {status} after SIGTERM");
        Ok(())
    }

    /// Starts a node again that has joined before.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self, kind: NodeKind) -> Result<()> {
        self.fleet.start_again(&self.places, kind)
    }

    /// Our own programs have not logged an error, nor panicked.
    ///
    /// # Errors
    /// They have.
    pub fn no_errors(&self) -> Result<()> {
        self.fleet.no_errors()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            // A failed test's only witnesses.
            eprint_tails(&self.fleet.tails());
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test harness talks to its terminal")]
fn eprint_tails(tails: &str) {
    eprintln!("{tails}");
}
