//! A node in a folder of its own, and waiting for what it does.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use serde_json::json;
use sluice_node_client::{Node, Settings};
use sluice_node_identity::{ConfigEnvelope, Role};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::fake::Control;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn settings(dir: &Path, control: &Control, code: &str) -> Settings {
    let file = dir.join("code");
    std::fs::write(&file, code).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Settings {
        state_dir: dir.join("state"),
        join_code_file: Some(file),
        control_address: Some(control.address),
        token: None,
    }
}

pub(crate) async fn joined(dir: &TempDir, control: &Control) -> Node {
    let settings = settings(dir.path(), control, &control.code().to_string());
    timeout(PATIENCE, Node::open(settings, Role::Edge)).await.unwrap().unwrap()
}

/// Opens the same node again, as after a restart, without a code.
pub(crate) async fn reopened(dir: &TempDir, control: &Control) -> Node {
    let settings = Settings { join_code_file: None, ..settings(dir.path(), control, "gone") };
    timeout(PATIENCE, Node::open(settings, Role::Edge)).await.unwrap().unwrap()
}

pub(crate) struct Running(pub(crate) JoinHandle<()>, pub(crate) watch::Sender<bool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn run(node: &Node) -> Running {
    let (stop, stopped) = watch::channel(false);
    let node = node.clone();
    Running(tokio::spawn(async move { node.run(stopped).await }), stop)
}

pub(crate) fn envelope(version: u64) -> ConfigEnvelope {
    ConfigEnvelope { version, schema: 1, role: Role::Edge, document: json!({"n": version}) }
}

pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

pub(crate) fn version(node: &Node) -> Option<u64> {
    node.config().borrow().as_ref().map(|envelope| envelope.version)
}
