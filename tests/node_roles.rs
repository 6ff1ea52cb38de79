//! The built command as a gateway and as a connector: what it refuses, what it prints, what it gives up, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use sluice_node_identity::{Fingerprint, JoinCode, JoinSecret};
use tempfile::TempDir;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of log that wait to be looked at.
const LINES: usize = 1_000;

fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A folder that the unprivileged user can walk through.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn file(folder: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn finish(role: &str, config: &Path, more: &[&str]) -> Output {
    let arguments = [&[role, "--config", config.to_str().unwrap()][..], more].concat();
    sluice(&arguments).output().unwrap()
}

/// Exit status and what was logged.
fn refusal(role: &str, text: &str) -> (Option<i32>, String) {
    let folder = folder();
    let config = file(folder.path(), "sluice.toml", 0o644, text);
    let output = finish(role, &config, &[]);
    assert!(!folder.path().join("state").exists(), "a refused configuration changed something");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn refused_configurations_say_where_and_end_with_64() {
    for (role, text, said) in [
        ("gateway", "state_dri = 'state'", vec!["`state_dri`", "`state_dir`"]),
        (
            "connector",
            "state_dir = 'state'\n[control]\naddres = '10.0.0.1:1'",
            vec!["`control.addres`", "`control.address`"],
        ),
        ("gateway", "state_dir = 'state'\nlisten = [443]", vec!["line 2", "listen"]),
        ("connector", "state_dir = 'state'\n[limits]\nstreams = 0", vec!["limits.streams"]),
        ("gateway", "state_dir = 'state'\n[limits]\nconnections = 0", vec!["limit of 0"]),
        ("connector", "", vec!["state_dir"]),
        (
            "gateway",
            "state_dir = 'state'\n[[certificates]]\nhosts = ['a.test']\nchain_file = '/nonexistent/c'\nkey_file = '/nonexistent/k'",
            vec!["`certificates[0].key_file`", "/nonexistent/k"],
        ),
    ] {
        let (code, log) = refusal(role, text);
        assert_eq!(code, Some(64), "{log}");
        assert!(said.iter().all(|word| log.contains(word)), "{said:?} not in: {log}");
    }
    let missing = finish("gateway", Path::new("/nonexistent/sluice.toml"), &[]);
    assert_eq!(missing.status.code(), Some(64));
}

#[test]
fn check_prints_what_is_in_effect_and_no_secret() {
    let folder = folder();
    let key = file(folder.path(), "key.pem", 0o600, "very secret");
    let text = format!(
        "state_dir = '{0}/state'\n[[certificates]]\nhosts = ['a.test']\nchain_file = '{0}/chain.pem'\nkey_file = '{1}'\n",
        folder.path().display(),
        key.display()
    );
    let config = file(folder.path(), "gateway.toml", 0o644, &text);
    let output = finish("gateway", &config, &["--check"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in
        ["0.0.0.0:443", "connections_per_address = 512", "max_stale_seconds = 86400", "user = \"nobody\"", "key.pem"]
    {
        assert!(printed.contains(word), "{word} not in {printed}");
    }
    assert!(!printed.contains("very secret"));
    assert!(!folder.path().join("state").exists());
}

#[test]
fn bad_join_codes_end_the_start_and_say_what_to_do() {
    let good = code("https://127.0.0.1:1");
    for (mode, text, said) in [
        (0o600, "slj1_xyz", "copy the whole line again"),
        (0o600, "hello", "starts with"),
        (0o644, good.as_str(), "chmod 0600"),
    ] {
        let folder = folder();
        let config = node(&folder, "", mode, text);
        let output = finish("connector", &config, &[]);
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(said), "{log}");
        assert!(!log.contains(text), "the code was logged: {log}");
    }
}

#[test]
fn node_that_waits_for_control_is_confined_and_ends_on_sigterm() {
    let folder = folder();
    let config = node(&folder, "", 0o600, &code("https://127.0.0.1:1"));
    let mut running = Running::start(&["connector", "--config", config.to_str().unwrap()]);
    running.line("cannot join yet");
    assert_confined(running.child.id());
    assert!(running.stop().success());
}

#[test]
fn gateway_listens_before_it_is_confined_and_survives_rubbish() {
    let folder = folder();
    let config = node(&folder, "listen = ['127.0.0.1:0', '[::1]:0']", 0o600, &code("https://127.0.0.1:1"));
    let mut running = Running::start(&["gateway", "--config", config.to_str().unwrap()]);
    let line = running.line("listening");
    let address: SocketAddr = line.rsplit("address=").next().unwrap().trim().parse().unwrap();
    running.line("cannot join yet");
    assert_confined(running.child.id());
    for rubbish in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096]] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(rubbish).unwrap();
    }
    assert!(running.stop().success());
}

fn code(url: &str) -> String {
    let secret = JoinSecret::new([7; 16]);
    let code =
        JoinCode { url: url.to_owned(), root_pin: Fingerprint::of(b""), policy_thumbprint: "p".to_owned(), secret };
    code.to_string()
}

fn node(folder: &TempDir, first: &str, mode: u32, code: &str) -> PathBuf {
    let code = file(folder.path(), "code", mode, code);
    let state = folder.path().join("state");
    let text =
        format!("state_dir = '{}'\n{first}\n[control]\njoin_code_file = '{}'\n", state.display(), code.display());
    file(folder.path(), "sluice.toml", 0o644, &text)
}

/// What the kernel says about a process that gave everything up.
fn assert_confined(pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"), "{status}");
    assert_eq!(field("CapEff:"), "0000000000000000", "{status}");
    assert_eq!(field("CapBnd:").as_str() == "0000000000000000", geteuid().is_root(), "{status}");
    assert_ne!(field("Uid:"), "0", "{status}");
}

struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = sluice(arguments).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (heard, lines) = mpsc::sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line of log with these words.
    fn line(&mut self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => all.push(line),
                Err(_) => panic!("{words:?} was never logged: {all:#?}"),
            }
        }
    }

    fn stop(mut self) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut out = String::new();
                self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
                assert_eq!(out, "", "logs belong on standard error");
                return status;
            }
            assert!(Instant::now() < until, "does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
