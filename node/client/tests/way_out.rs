//! Everything a node says to control goes the way that its role knows, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fake;
mod rig;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use fake::Control;
use rig::{PATIENCE, run, settings, until};
use sluice_node_client::{Dial, Dialled, Node, Ready, Settings};
use sluice_node_identity::Role;
use tokio::{net::TcpStream, time::timeout};

/// Leads wherever it is told, whatever it is asked for.
#[derive(Debug)]
struct Detour {
    to: Mutex<SocketAddr>,
    proxy: Option<&'static str>,
    asked: Mutex<Vec<(String, u16)>>,
}

#[async_trait::async_trait]
impl Dial for Detour {
    async fn dial(&self, host: &str, port: u16) -> anyhow::Result<Dialled> {
        self.asked.lock().unwrap().push((host.to_owned(), port));
        let to = *self.to.lock().unwrap();
        let io = TcpStream::connect(to).await?;
        Ok(Dialled { io: Box::new(io), proxy: self.proxy.map(str::to_owned) })
    }
}

async fn joined(control: &Control, dir: &tempfile::TempDir, detour: &Arc<Detour>) -> Node {
    let settings = settings(dir.path(), control, &control.code().to_string());
    // Without an address only the name is left, and nobody resolves that.
    let settings = Settings { control_address: None, ..settings };
    let ready = Ready::new(settings).unwrap().through(detour.clone());
    timeout(PATIENCE, Node::start(ready, Role::Edge)).await.unwrap().unwrap()
}

fn detour(control: &Control, proxy: Option<&'static str>) -> Arc<Detour> {
    Arc::new(Detour { to: Mutex::new(control.address), proxy, asked: Mutex::default() })
}

#[tokio::test]
async fn c3_joining_watching_and_renewing_all_go_the_given_way() {
    let (control, dir) = (Control::start().await, tempfile::tempdir().unwrap());
    let detour = detour(&control, None);
    let asked = || detour.asked.lock().unwrap().len();
    let node = joined(&control, &dir, &detour).await;
    let for_joining = asked();
    assert!(for_joining >= 2, "nonce and join");
    control.world().config = Some(rig::envelope(1));
    control.tell("hub/h-1", serde_json::json!({"enrolled": true}));
    let running = run(&node);
    until("the document", || rig::version(&node) == Some(1)).await;
    until("the state", || node.state().borrow().seq() > 0).await;
    assert!(asked() >= for_joining + 2, "document and state");
    drop(running);
    let before = asked();
    timeout(PATIENCE, node.renew()).await.unwrap().unwrap();
    assert!(asked() > before, "renewal");
    let places = detour.asked.lock().unwrap().clone();
    assert!(places.iter().all(|(host, _)| host == fake::HOST), "{places:?}");
}

#[tokio::test]
async fn c3_a_proxy_that_breaks_tls_open_is_named_and_no_proxy_is_not() {
    for (proxy, words) in [
        (Some("http://proxy.corp.test:3128"), "the web proxy http://proxy.corp.test:3128 breaks TLS open"),
        (None, "TLS with control failed"),
    ] {
        let (control, stranger) = (Control::start().await, Control::start().await);
        let dir = tempfile::tempdir().unwrap();
        let detour = detour(&control, proxy);
        let node = joined(&control, &dir, &detour).await;
        // From here somebody else answers, with a certificate of an authority of his own.
        *detour.to.lock().unwrap() = stranger.address;
        let error = timeout(PATIENCE, node.renew()).await.unwrap().unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains(words), "{said}");
        assert_eq!(said.contains(&format!("have {} exempted", fake::HOST)), proxy.is_some(), "{said}");
        assert_eq!(stranger.world().requests, 0, "nothing is asked of a stranger");
    }
}
