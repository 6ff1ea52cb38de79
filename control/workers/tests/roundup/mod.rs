//! A real Roundup on loopback, of its own for each test.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Release that `cargo xtask install` puts into the cache folder.
const VERSION: &str = "2.6.0";
/// Public address that the shipped declaration names.
pub const PUBLIC: &str = "https://roundup.acme.test/t/";
/// Issues in a fresh tracker: every third is assigned to carol, none to bob.
pub const ISSUES: usize = 500;

/// Roundup's number of the user bob: after admin, anonymous and alice.
pub const BOB: &str = "4";

const LOAD: &str = "\
import sys
from roundup import instance
db = instance.open(sys.argv[1]).open('alice')
carol = db.user.lookup('carol')
for i in range(int(sys.argv[2])):
    db.issue.create(title='issue %d' % i, status=str(1 + i % 7), assignedto=carol if i % 3 == 0 else None)
db.commit()
db.close()
";

/// A role that reads what a sync needs and no more; the same as the shipped declaration's comment says.
const SYNC_ROLE: &str = "
db.security.addRole(name='Sync', description='Reads issues and who they are assigned to')
for access in ('Web Access', 'Rest Access'):
    db.security.addPermissionToRole('Sync', access)
for cl in ('issue', 'status'):
    db.security.addPermissionToRole('Sync', 'View', cl)
who = db.security.addPermission(name='View', klass='user', properties=('id', 'username', 'address'))
db.security.addPermissionToRole('Sync', who)
";

pub struct Roundup {
    pub address: SocketAddr,
    work: TempDir,
    venv: PathBuf,
    server: Child,
}

impl Roundup {
    /// Makes and starts a tracker with users alice, bob, carol and the service account sync.
    pub fn start() -> Self {
        let work = tempfile::Builder::new().prefix("sluice-workers-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(work.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (venv, server) = (installed(), Command::new("true").spawn().unwrap());
        let mut roundup = Self { address, work, venv, server };
        roundup.set_up();
        let mut command = roundup.command("roundup-server");
        command.args(["-n", "127.0.0.1", "-p", &address.port().to_string(), "-t", "thread", "-l", "server.log"]);
        command.arg("t=tracker").stdout(Stdio::null()).stderr(Stdio::null());
        // Its own group: the shell that mounts and the server end together.
        roundup.server = command.process_group(0).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "Roundup does not start");
            thread::sleep(Duration::from_millis(50));
        }
        roundup
    }

    /// What `roundup-admin` prints.
    pub fn admin(&self, args: &[&str]) -> String {
        let output = self.command("roundup-admin").args(["-i", "tracker"]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Changes an issue by Roundup's own REST interface, with curl, as `by`.
    pub fn patch(&self, by: &str, issue: u32, body: &str) {
        let url = format!("http://{}/t/rest/data/issue/{issue}", self.address);
        let login = format!("{by}:{by}pw");
        let head = Command::new("curl").args(["-sS", "-i", "-m", "20", "-u", &login, &url]).output().unwrap();
        let head = String::from_utf8(head.stdout).unwrap();
        let etag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).expect(&head).trim();
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "-m", "20", "-u", &login, "-X", "PATCH", "-d", body]);
        for header in [
            "Host: roundup.acme.test",
            "Origin: https://roundup.acme.test",
            "X-Requested-With: test",
            "Content-Type: application/json",
            &format!("If-Match: {etag}"),
        ] {
            curl.args(["-H", header]);
        }
        let output = curl.arg(&url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Roundup refuses to run as root, and `nobody` cannot enter root's cache folder: a mount shows it all the same.
    fn command(&self, program: &str) -> Command {
        let here = self.work.path().join("venv");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"").arg("sh").arg(&self.venv).arg(&here);
        command.args(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        command.arg(here.join("bin/python")).arg(here.join("bin").join(program));
        command.current_dir(self.work.path()).env("HOME", self.work.path());
        command
    }

    fn set_up(&self) {
        fs::create_dir(self.work.path().join("venv")).unwrap();
        let mail = self.work.path().join("mail.out");
        let settings = format!(
            "tracker_web={PUBLIC},tracker_email=a@localhost,mail_domain=localhost,mail_host=127.0.0.1,mail_debug={},\
             web_enable_rest=yes,web_http_auth=yes,web_api_calls_per_interval=0,password_pbkdf2_default_rounds=10000",
            mail.display()
        );
        self.admin(&["install", "classic", "sqlite", &settings]);
        let schema = self.work.path().join("tracker/schema.py");
        fs::write(&schema, fs::read_to_string(&schema).unwrap() + SYNC_ROLE).unwrap();
        self.admin(&["initialise", "adminpw"]);
        for (user, role) in [("alice", "User"), ("bob", "User"), ("carol", "User"), ("sync", "Sync")] {
            let (name, password) = (format!("username={user}"), format!("password={user}pw"));
            let (mail, role) = (format!("address={user}@Acme.test"), format!("roles={role}"));
            self.admin(&["create", "user", &name, &password, &mail, &role]);
        }
        fs::write(self.work.path().join("load.py"), LOAD).unwrap();
        let mut load = self.command("../../load.py");
        let output = load.arg("tracker").arg(ISSUES.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Roundup {
    fn drop(&mut self) {
        let group = format!("-{}", self.server.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.server.wait());
    }
}

/// Never skipped: without Roundup the test fails.
fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
    let venv = cache.join("sluice/peers").join(format!("roundup-{VERSION}"));
    assert!(venv.join("bin/roundup-server").exists(), "{} is missing: run `cargo xtask install`", venv.display());
    venv
}
