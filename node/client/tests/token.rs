//! A connector whose key is in a PKCS#11 token (Debian's SoftHSM). Each test runs again as a process of its own: a
//! module belongs to one process, and reads from its environment where the tokens are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fake;
mod rig;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    object::{Attribute, AttributeType, ObjectClass},
    session::{Session, UserType},
    types::AuthPin,
};
use fake::Control;
use rig::{PATIENCE, run, settings, until};
use serde_json::json;
use sluice_node_client::{Node, Settings, TokenSettings};
use sluice_node_identity::{JoinCode, JoinSecret, Role};
use tempfile::TempDir;
use tokio::time::timeout;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const LABEL: &str = "sluice test";
const PIN: &str = "0123-4567";
const CONF: &str = "SOFTHSM2_CONF";
/// Begins a key in PEM.
const MARK: &str = "PRIVATE KEY";

/// True in the inner run; the outer one makes a token for it and checks how it went.
fn alone(test: &str) -> bool {
    if env::var_os(CONF).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("softhsm2.conf");
    fs::create_dir(folder.path().join("tokens")).unwrap();
    fs::write(&conf, format!("directories.tokendir = {}/tokens\n", folder.path().display())).unwrap();
    let mut made = Command::new("softhsm2-util");
    made.args(["--init-token", "--free", "--label", LABEL, "--so-pin", "98765432", "--pin", PIN]).env(CONF, &conf);
    assert!(made.status().expect("softhsm2-util (softhsm2)").success());
    let mut inner = Command::new(env::current_exe().unwrap());
    inner.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(CONF, &conf);
    assert!(inner.status().unwrap().success(), "{test} failed in its own process");
    false
}

fn token() -> TokenSettings {
    TokenSettings { module: MODULE.into(), label: LABEL.to_owned(), pin: PIN.to_owned().into() }
}

async fn open(settings: Settings) -> anyhow::Result<Node> {
    timeout(PATIENCE * 4, Node::open(settings, Role::Connector)).await.unwrap()
}

async fn joined(dir: &TempDir, control: &Control) -> Node {
    let settings = settings(dir.path(), control, &control.code().to_string());
    open(Settings { token: Some(token()), ..settings }).await.unwrap()
}

/// Opens the same node again, as after a restart, without a code.
async fn reopened(dir: &TempDir, control: &Control, token: Option<TokenSettings>) -> anyhow::Result<Node> {
    open(Settings { join_code_file: None, token, ..settings(dir.path(), control, "gone") }).await
}

/// What another program sees in the token with the same PIN: every private key, and whether it can be had.
fn look() -> Vec<Vec<u8>> {
    let module = Pkcs11::new(MODULE).unwrap();
    let mut slots = module.get_slots_with_initialized_token().unwrap().into_iter();
    let slot = slots.find(|slot| module.get_token_info(*slot).unwrap().label() == LABEL).unwrap();
    let session: Session = module.open_ro_session(slot).unwrap();
    match session.login(UserType::User, Some(&AuthPin::from(PIN))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => panic!("{error}"),
    }
    let keys = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap();
    keys.into_iter()
        .map(|key| {
            let hidden = [AttributeType::PrivateExponent, AttributeType::Prime1];
            assert!(session.get_attributes(key, &hidden).unwrap().is_empty(), "the token gives the key out");
            let facts = session.get_attributes(key, &[AttributeType::Extractable, AttributeType::Modulus]).unwrap();
            assert!(facts.contains(&Attribute::Extractable(false)));
            facts.into_iter().find_map(|fact| if let Attribute::Modulus(n) = fact { Some(n) } else { None }).unwrap()
        })
        .collect()
}

/// The modulus in the node's certificate.
fn shown(node: &Node) -> Vec<u8> {
    let leaf = node.leaf_der().unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let Ok(x509_parser::public_key::PublicKey::RSA(key)) = leaf.public_key().parsed() else { panic!("not RSA") };
    assert_eq!(key.key_size(), 3072);
    key.modulus[key.modulus.len() - 384..].to_vec()
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn assert_no_key_in(dir: &TempDir) {
    let found = files(&dir.path().join("state"));
    assert!(!found.is_empty());
    for file in found {
        let text = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(MARK), "a key is in {}", file.display());
    }
}

async fn echo(node: &Node) -> bool {
    node.post::<_, serde_json::Value>("/node/v1/echo", &json!(1)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_key_of_a_connector_is_made_in_the_token_and_never_leaves_it() {
    if !alone("c4_key_of_a_connector_is_made_in_the_token_and_never_leaves_it") {
        return;
    }
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    // A lost answer is asked for again with the same key.
    control.world().lose.insert("/node/v1/join".to_owned());
    let node = joined(&dir, &control).await;
    assert_eq!(look(), [shown(&node)]);
    assert_no_key_in(&dir);
    // More handshakes at once than the token is asked for sessions.
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { echo(&node).await })
        })
        .collect();
    for call in calls {
        assert!(timeout(PATIENCE, call).await.unwrap().unwrap());
    }
    // A restart finds it again; without the token there is nothing to find.
    let leaf = node.leaf_der().unwrap();
    drop(node);
    let node = reopened(&dir, &control, Some(token())).await.unwrap();
    assert_eq!(node.leaf_der().unwrap(), leaf);
    assert!(echo(&node).await);
    let Err(error) = reopened(&dir, &control, None).await else { panic!("opened without the token") };
    assert!(format!("{error:#}").contains("name it in the configuration"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_renewed_key_is_made_in_the_token_and_the_former_one_destroyed_after_its_first_use() {
    if !alone("c4_renewed_key_is_made_in_the_token_and_the_former_one_destroyed_after_its_first_use") {
        return;
    }
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let node = joined(&dir, &control).await;
    let first = shown(&node);
    node.renew().await.unwrap();
    assert_ne!(shown(&node), first);
    assert_eq!(look(), [shown(&node)]);
    // An answer is lost: both keys stay, and the pending one is asked for again.
    control.world().lose.insert("/node/v1/renew".to_owned());
    assert!(node.renew().await.is_err());
    assert_eq!(look().len(), 2);
    drop(node);
    let node = reopened(&dir, &control, Some(token())).await.unwrap();
    node.renew().await.unwrap();
    assert_eq!(look(), [shown(&node)]);
    // Control forgets the new key before its first use: back to the one before, which is still there.
    let before = shown(&node);
    control.world().lose.insert("/node/v1/state".to_owned());
    let bound = control.world().binding.clone();
    assert!(node.renew().await.is_err());
    assert_eq!(look().len(), 2);
    control.world().binding = bound;
    let _running = run(&node);
    until("the key before", || shown(&node) == before && look() == [before.clone()]).await;
    assert!(echo(&node).await);
    assert_no_key_in(&dir);
    assert_eq!(control.world().clones, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_connector_that_slept_rejoins_with_the_token_and_a_new_code_destroys_the_former_key() {
    if !alone("c4_connector_that_slept_rejoins_with_the_token_and_a_new_code_destroys_the_former_key") {
        return;
    }
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    control.world().lifetime = Duration::from_secs(30); // they begin a minute ago
    let node = joined(&dir, &control).await;
    let (key, asleep) = (shown(&node), node.leaf_der().unwrap());
    control.world().lifetime = Duration::from_secs(3600);
    let running = run(&node);
    until("a new certificate", || node.leaf_der().unwrap() != asleep).await;
    assert_eq!(shown(&node), key, "proved with the bound key");
    drop((running, node));
    let other = Control::start().await;
    let code = JoinCode { secret: JoinSecret::new([8; 16]), ..other.code() };
    other.world().code.digest = code.secret.digest();
    let settings = settings(dir.path(), &other, &code.to_string());
    let node = open(Settings { token: Some(token()), ..settings }).await.unwrap();
    assert_ne!(shown(&node), key);
    assert_eq!(look(), [shown(&node)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_key_moves_into_the_token_with_the_next_renewal() {
    if !alone("c4_key_moves_into_the_token_with_the_next_renewal") {
        return;
    }
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let settings = settings(dir.path(), &control, &control.code().to_string());
    drop(open(settings).await.unwrap());
    let node = reopened(&dir, &control, Some(token())).await.unwrap();
    assert!(look().is_empty());
    node.renew().await.unwrap();
    assert_eq!(look(), [shown(&node)]);
    assert_no_key_in(&dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_wrong_module_label_or_pin_is_named_and_the_pin_is_not_told() {
    if !alone("c4_wrong_module_label_or_pin_is_named_and_the_pin_is_not_told") {
        return;
    }
    let (dir, control) = (tempfile::tempdir().unwrap(), Control::start().await);
    let wrong_pin = "7654-3210";
    for (token, words) in [
        (TokenSettings { module: "/lib/x86_64-linux-gnu/libc.so.6".into(), ..token() }, "cannot load the module"),
        (TokenSettings { label: "another".to_owned(), ..token() }, "no token with the label 'another'"),
        (TokenSettings { pin: wrong_pin.to_owned().into(), ..token() }, "does not take the PIN"),
    ] {
        assert!(!format!("{token:?}").contains("4567") && !format!("{token:?}").contains(wrong_pin));
        let settings = settings(dir.path(), &control, &control.code().to_string());
        let Err(error) = open(Settings { token: Some(token), ..settings }).await else { panic!("opened") };
        let error = format!("{error:#}");
        assert!(error.contains(words) && !error.contains(wrong_pin), "{error}");
    }
    assert_eq!(control.world().joins, 0);
}
