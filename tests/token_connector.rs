//! The built connector, confined, with its key in a PKCS#11 token (Debian's SoftHSM).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod behind_connector;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use behind_connector::World;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn run(command: &mut Command) {
    let ended = command.output().expect("softhsm2-util (softhsm2)");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn c4_confined_connector_serves_with_a_key_that_never_leaves_its_token() {
    let mut world = World::up();
    let (conf, tokens, pin) = (world.path("softhsm2.conf"), world.path("tokens"), world.path("pin"));
    fs::create_dir(&tokens).unwrap();
    world.write("softhsm2.conf", &format!("directories.tokendir = {tokens}\n"));
    world.write("pin", "0123-4567\n");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let label = ["--init-token", "--free", "--label", "connector", "--so-pin", "98765432", "--pin", "0123-4567"];
    run(Command::new("softhsm2-util").args(label).env("SOFTHSM2_CONF", &conf));
    run(Command::new("chown").args(["-R", "nobody", &tokens]));
    let before = files(Path::new(&tokens)).len();
    let plain = fs::read_to_string(world.path("connector.toml")).unwrap();
    let key = format!(
        "[key]\npkcs11_module = \"/usr/lib/softhsm/libsofthsm2.so\"\ntoken_label = \"connector\"\npin_file = {pin:?}\n\
         runtime_paths = [{tokens:?}]\n"
    );
    world.write("connector.toml", &format!("{plain}{key}"));
    world.environment.push(("SOFTHSM2_CONF", conf));
    world.start("gateway");
    world.line("gateway", "joined");
    for user in ["bob", "bob again"] {
        world.start("connector");
        world.line("connector", "confined");
        world.line("gateway", "tunnel is up");
        if user == "bob" {
            world.eventually(user, "wiki.acme.test", |page| page.contains("seen by the app"));
        } else {
            // Signed in already; after the restart the tunnel must come back.
            let began = Instant::now();
            while !world.curl("bob", &["https://wiki.acme.test/"]).contains("seen by the app") {
                assert!(began.elapsed() < PATIENCE, "{}", world.log("connector"));
                thread::sleep(Duration::from_millis(200));
            }
        }
        let status = world.stop("connector", Signal::SIGTERM);
        assert!(status.success(), "{status}\n{}", world.log("connector"));
        assert!(!world.log("connector").contains("ERROR"), "{}", world.log("connector"));
    }
    assert!(files(Path::new(&tokens)).len() > before, "no key was made in the token");
    let state = files(Path::new(&world.path("connector-state")));
    assert!(state.iter().any(|file| file.ends_with("identity.json")));
    for file in state {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("PRIVATE KEY"), "a key is in {}", file.display());
    }
}
