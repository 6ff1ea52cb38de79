//! A real Roundup issue tracker in a namespace, filled with issues and users.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{Process, output},
    topology::Ns,
};

/// The release that is installed and tested.
pub const VERSION: &str = "2.6.0";
/// Name of the tracker, and first part of its paths.
pub const TRACKER: &str = "roundup";
/// Header in which the gateway names the user.
pub const USER_HEADER: &str = "X-Remote-User";
/// Issues in a fresh tracker.
pub const ISSUES: usize = 520;

/// Fills a tracker; runs inside Roundup's own virtual environment.
const LOAD: &str = "\
import sys
from roundup import instance
db = instance.open(sys.argv[1]).open('alice')
carol = db.user.lookup('carol')
for i in range(int(sys.argv[2])):
    m = db.msg.create(content='body %d' % i, author=db.getuid())
    db.issue.create(title='issue %d' % i, status=str(1 + i % 7), messages=[m], assignedto=carol if i % 3 == 0 else None)
db.commit()
db.close()
";

/// The user's cache may lie in a folder that `nobody` cannot enter; a mount of it is visible all the same.
/// `ip netns exec` gives every program a mount namespace of its own.
const BIND: &str = "\
#!/bin/sh
set -e
mount --bind \"$1\" \"$2\"
shift 2
exec \"$@\"
";

/// What `cargo xtask install` has put into the cache.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The virtual environment `cargo xtask install` made.
    pub venv: PathBuf,
}

/// Who has an account in the tracker. The password is the name and `pw-roundup`.
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "sync"];

/// A running tracker.
#[derive(Debug)]
pub struct Roundup {
    ns: Ns,
    work: PathBuf,
    /// Where the virtual environment is, and where its programs see it.
    venv: (PathBuf, PathBuf),
    address: SocketAddr,
    server: Option<Process>,
}

impl Installed {
    /// Finds what `cargo xtask install` put into the user's cache.
    ///
    /// # Errors
    /// It is not there: run `cargo xtask install`.
    pub fn find() -> Result<Self> {
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
        };
        let venv = cache.join("sluice/peers").join(format!("roundup-{VERSION}"));
        if !venv.join("bin/roundup-server").exists() {
            bail!("Roundup {VERSION} is not installed in {}; run `cargo xtask install`", venv.display());
        }
        Ok(Self { venv })
    }
}

/// The password of a tracker account.
#[must_use]
pub fn password(user: &str) -> String {
    format!("{user}-pw-roundup")
}

impl Roundup {
    /// Makes a tracker under `work` (readable by everybody) with `issues` issues and starts its server.
    ///
    /// `public_url` is where browsers find it, with a slash at the end.
    ///
    /// # Errors
    /// Roundup refuses.
    pub fn start(
        ns: &Ns,
        installed: &Installed,
        work: &Path,
        address: SocketAddr,
        public_url: &str,
        issues: usize,
    ) -> Result<Self> {
        let venv = work.join("venv");
        fs::create_dir_all(&venv)?;
        fs::write(work.join("bind.sh"), BIND)?;
        let venv = (installed.venv.clone(), venv);
        let mut roundup = Self { ns: ns.clone(), work: work.to_owned(), venv, address, server: None };
        roundup.set_up(public_url, issues)?;
        roundup.serve()?;
        Ok(roundup)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lines of an issue's own history, as `roundup-admin history` prints them.
    ///
    /// # Errors
    /// `roundup-admin` fails.
    pub fn history(&self, issue: &str) -> Result<String> {
        output(&self.admin(&["history", &format!("issue{issue}")]))
    }

    /// One property of an issue.
    ///
    /// # Errors
    /// `roundup-admin` fails.
    pub fn property(&self, issue: &str, property: &str) -> Result<String> {
        Ok(output(&self.admin(&["get", property, &format!("issue{issue}")]))?.trim().to_owned())
    }

    /// How many issues there are, counted by Roundup's own command.
    ///
    /// # Errors
    /// `roundup-admin` fails.
    pub fn issues(&self) -> Result<usize> {
        let listed = output(&self.admin(&["list", "issue"]))?;
        Ok(listed.lines().filter(|line| !line.trim().is_empty()).count())
    }

    /// Assigns an issue to `to`, done by `by` through Roundup's own REST interface, from inside the namespace.
    ///
    /// # Errors
    /// Roundup refuses.
    pub fn assign(&self, by: &str, issue: &str, to: &str, public_url: &str) -> Result<()> {
        let origin = origin(public_url)?;
        let host = origin.rsplit('/').next().unwrap_or_default();
        let url = format!("http://{}/{TRACKER}/rest/data/issue/{issue}", self.address);
        let login = self.secret_file(&format!("user = \"{by}:{}\"\n", password(by)))?;
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "-i", "-m", "20", "-K"]).arg(&login).args(["-H", &format!("Host: {host}")]);
        let etag = output(curl.arg(&url))?
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("etag").then(|| value.trim().to_owned())
            })
            .context("Roundup sent no ETag")?;
        let mut patch = self.ns.command("curl");
        patch.args(["-sS", "-m", "20", "--fail-with-body", "-X", "PATCH", "-K"]).arg(&login);
        for header in [
            format!("Host: {host}"),
            format!("Origin: {origin}"),
            "X-Requested-With: demo".to_owned(),
            "Content-Type: application/json".to_owned(),
            format!("If-Match: {etag}"),
        ] {
            patch.args(["-H", &header]);
        }
        patch.args(["-d", &format!("{{\"assignedto\": \"{to}\"}}"), &url]);
        output(&patch).map(drop)
    }

    fn secret_file(&self, text: &str) -> Result<PathBuf> {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        let path = self.work.join("login.curl");
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// A program of the virtual environment as `nobody` (Roundup refuses to run as root).
    fn command(&self, program: &str) -> Command {
        let (source, venv) = &self.venv;
        let mut command = self.ns.command("sh");
        command.arg(self.work.join("bind.sh")).arg(source).arg(venv);
        command.args(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        command.arg(venv.join("bin/python")).arg(venv.join("bin").join(program));
        command.env("HOME", &self.work).current_dir(&self.work);
        command
    }

    fn admin(&self, args: &[&str]) -> Command {
        let mut command = self.command("roundup-admin");
        command.arg("-i").arg(self.tracker()).args(args);
        command
    }

    fn tracker(&self) -> PathBuf {
        self.work.join("tracker")
    }

    fn set_up(&self, public_url: &str, issues: usize) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&self.work, fs::Permissions::from_mode(0o1777))?;
        let settings = [
            ("tracker_web", public_url.to_owned()),
            ("tracker_email", "tracker@localhost".to_owned()),
            ("mail_domain", "localhost".to_owned()),
            ("mail_host", "127.0.0.1".to_owned()),
            ("mail_debug", self.work.join("mail.out").display().to_string()),
            ("web_enable_rest", "yes".to_owned()),
            ("web_http_auth", "yes".to_owned()),
            ("web_http_auth_header", USER_HEADER.to_owned()),
            ("web_api_calls_per_interval", "0".to_owned()),
            ("password_pbkdf2_default_rounds", "10000".to_owned()),
        ]
        .map(|(key, value)| format!("{key}={value}"))
        .join(",");
        output(&self.admin(&["install", "classic", "sqlite", &settings]))?;
        output(&self.admin(&["initialise", "admin-pw-roundup"]))?;
        for user in USERS {
            let (name, secret) = (format!("username={user}"), format!("password={}", password(user)));
            let mail = format!("address={user}@acme.test");
            // Roundup's role User does not see other users' mail addresses; the service account must.
            let role = if user == "sync" { "roles=User,Admin" } else { "roles=User" };
            output(&self.admin(&["create", "user", &name, &secret, &mail, role]))?;
        }
        fs::write(self.work.join("load.py"), LOAD)?;
        let mut load = self.command("../../load.py");
        load.arg(self.tracker()).arg(issues.to_string());
        output(&load).map(drop)
    }

    fn serve(&mut self) -> Result<()> {
        let mut command = self.command("roundup-server");
        command.args(["-n", &self.address.ip().to_string(), "-p", &self.address.port().to_string()]);
        command.args(["-t", "thread", "-I", USER_HEADER]);
        command.arg(format!("{TRACKER}={}", self.tracker().display()));
        let mut server = Process::start("roundup", command, &self.work)?;
        server.wait_for_port(&self.ns, self.address, Duration::from_secs(20))?;
        self.server = Some(server);
        Ok(())
    }
}

/// `https://host` of a URL.
fn origin(url: &str) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("not a URL")?;
    let host = rest.split('/').next().unwrap_or_default();
    Ok(format!("{scheme}://{host}"))
}

/// A work folder that `nobody` can enter.
///
/// # Errors
/// The temporary folder cannot be written.
pub fn work_folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("sluice-roundup-").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// The host's address a tracker listens on.
#[must_use]
pub fn listen(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 8917)
}
