//! The built command as control, on loopback, with files of its own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn sluice(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(words).env("RUST_LOG", "info").stdin(Stdio::null());
    command
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// A data directory with nothing but the keys of `from`, as an operator keeps them apart.
pub(crate) fn kept_keys(from: &Path, to: &Path) {
    let copy = |name: &str| {
        fs::create_dir_all(to.join(name)).unwrap();
        fs::set_permissions(to.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(from.join(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() && !entry.file_name().to_str().unwrap().contains(".db") {
                fs::copy(entry.path(), to.join(name).join(entry.file_name())).unwrap();
            }
        }
    };
    copy("keystore");
    copy("wallet");
    copy("wallet/tenants");
}

/// One control with its files; `home` is its data directory.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) home: PathBuf,
    pub(crate) running: Option<Child>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Control becomes another user, who must be able to walk through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let world = Self { home: folder.path().join("data"), folder, address, running: None };
        world.configure(&world.home);
        world
    }

    pub(crate) fn configure(&self, home: &Path) {
        let text = format!(
            "data_dir = {home:?}\nlisten = [\"{0}\"]\nadvertised_address = \"{0}\"\ntrust_domain = \"sluice.test\"\n\
             [names]\nnode = \"node.sluice.test\"\nconsole = \"console.sluice.test\"\npages = \"pages.sluice.test\"\n",
            self.address
        );
        fs::write(self.path("control.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn control(&self, words: &[&str]) -> Output {
        let config = self.path("control.toml");
        let all = [&["control"], words, &["--config", config.to_str().unwrap()]].concat();
        sluice(&all).output().unwrap()
    }

    pub(crate) fn init(&self) {
        let link = self.path("owner.link");
        let made = self.control(&["init", "--owner-link-file", link.to_str().unwrap()]);
        assert!(made.status.success(), "{}", said(&made));
    }

    pub(crate) fn start(&mut self) {
        // A log of its own for every start, so that "serves" means this one.
        fs::write(self.path("log"), "").unwrap();
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let config = self.path("control.toml");
        let mut command = sluice(&["control", "--config", config.to_str().unwrap()]);
        self.running = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        while !self.log().contains("control serves") {
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "control does not come up: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    pub(crate) fn end(&mut self, signal: Signal) -> std::process::ExitStatus {
        let mut child = self.running.take().unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        child.wait().unwrap()
    }

    pub(crate) fn admin(&self, words: &[&str]) -> Output {
        let (root, token) = (self.home.join("node-root.pem"), self.path("owner.token"));
        let address = self.address.to_string();
        let server = format!("https://console.sluice.test:{}", self.address.port());
        let all = [
            &["admin", "--json", "--server", &server, "--address", &address, "--root", root.to_str().unwrap()],
            &["--token-file", token.to_str().unwrap()][..],
            words,
        ]
        .concat();
        sluice(&all).output().unwrap()
    }

    pub(crate) fn good(&self, words: &[&str]) -> Value {
        let output = self.admin(words);
        assert!(output.status.success(), "{words:?}: {}\n{}", said(&output), self.log());
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    pub(crate) fn claim(&self, link: &str, save: &str) -> Output {
        let (link, save) = (self.path(link), self.path(save));
        self.admin(&["owner", "claim", "--link-file", link.to_str().unwrap(), "--save", save.to_str().unwrap()])
    }

    pub(crate) fn owned() -> Self {
        let mut world = Self::new();
        world.init();
        world.start();
        let claimed = world.claim("owner.link", "owner.token");
        assert!(claimed.status.success(), "{}", said(&claimed));
        world
    }

    pub(crate) fn tenant(&self) {
        self.good(&[
            "tenant",
            "add",
            "acme",
            "--name",
            "Acme",
            "--login-host",
            "login.acme.test",
            "--est-host",
            "est.acme.test",
            "--checkin-host",
            "checkin.acme.test",
            "--feed-host",
            "feed.acme.test",
        ]);
        self.good(&["site", "add", "branch", "--tenant", "acme", "--name", "Branch"]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
