#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, net::SocketAddr, os::unix::fs::PermissionsExt};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sample {
    state_dir: PathBuf,
    #[serde(default)]
    control: NodeSection,
    #[serde(default)]
    doors: Vec<Door>,
    #[serde(default)]
    colours: BTreeMap<String, Door>,
    mode: Option<Mode>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Door {
    listen: SocketAddr,
    key_file: Option<SecretFile>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Mode {
    Fast { speed: u32 },
    Slow { patience: u32 },
}

fn loaded(text: &str) -> Result<Sample, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.toml");
    std::fs::write(&path, text).unwrap();
    load(&path)
}

fn refusal(text: &str) -> String {
    loaded(text).unwrap_err().to_string()
}

#[test]
fn whole_file_is_read_and_printed_back_the_same() {
    let sample =
        loaded("state_dir = '/s'\n[control]\naddress = '10.0.0.1:8443'\n[[doors]]\nlisten = '[::1]:1'").unwrap();
    let again = loaded(&toml::to_string_pretty(&sample).unwrap()).unwrap();
    assert_eq!(sample, again);
}

#[test]
fn unknown_key_is_refused_with_the_nearest_known_key() {
    for (text, key, nearest) in [
        ("state_dri = '/s'", "`state_dri`", "`state_dir`"),
        ("state_dir = '/s'\n[control]\nadress = '1.2.3.4:5'", "`control.adress`", "`control.address`"),
        ("state_dir = '/s'\n[[doors]]\nlisten = '1.2.3.4:5'\nkey = 'x'", "`doors[0].key`", "`doors[0].key_file`"),
        ("state_dir = '/s'\n[colours.red]\nlitsen = '1.2.3.4:5'", "`colours.red.litsen`", "`colours.red.listen`"),
        ("state_dir = '/s'\n[mode]\nkind = 'slow'\npatiense = 1", "`mode.patiense`", "`mode.patience`"),
    ] {
        let message = refusal(text);
        assert!(message.contains(key) && message.contains(nearest), "{message}");
        assert!(message.contains("sample.toml"), "{message}");
    }
}

#[test]
fn wrong_type_is_refused_with_line_and_key() {
    let message = refusal("state_dir = '/s'\n[control]\naddress = 7");
    assert!(message.contains("line 3") && message.contains("address = 7"), "{message}");
    let message = refusal("state_dir = '/s'\ncontrol = 'near'");
    assert!(message.contains("line 2") && message.contains("control"), "{message}");
}

#[test]
fn missing_key_and_broken_toml_are_refused_with_a_reason() {
    assert!(refusal("").contains("state_dir"));
    assert!(refusal("state_dir = ").contains("line 1"));
}

#[test]
fn unreadable_file_is_refused_by_name() {
    let message = load::<Sample>(Path::new("/nonexistent/sluice.toml")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/sluice.toml") && message.contains("No such file"), "{message}");
}

#[test]
fn file_without_end_is_refused() {
    assert!(refusal(&"#".repeat(1024 * 1024 + 1)).contains("longer than"));
}

#[test]
fn unreadable_secret_file_is_refused_by_key() {
    let message = refusal("state_dir = '/s'\n[[doors]]\nlisten = '1.2.3.4:5'\nkey_file = '/nonexistent/key'");
    assert!(message.contains("`doors[0].key_file`") && message.contains("/nonexistent/key"), "{message}");
}

#[test]
fn exposed_secret_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "not for print").unwrap();
    for (mode, accepted) in
        [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o604, false)]
    {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = format!("state_dir = '/s'\n[colours.red]\nlisten = '1.2.3.4:5'\nkey_file = '{}'", key.display());
        match loaded(&text) {
            Ok(_) => assert!(accepted, "{mode:o} was accepted"),
            Err(error) => assert!(!accepted && error.to_string().contains("chmod 0600"), "{mode:o}: {error}"),
        }
    }
}

#[test]
fn effective_configuration_never_holds_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "not for print").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("state_dir = '/s'\n[[doors]]\nlisten = '1.2.3.4:5'\nkey_file = '{}'", key.display());
    let sample = loaded(&text).unwrap();
    let printed = toml::to_string_pretty(&sample).unwrap();
    assert!(printed.contains("key_file") && !printed.contains("not for print"));
    assert_eq!(sample.doors[0].key_file.as_ref().unwrap().read().unwrap().as_slice(), b"not for print");
}

#[test]
fn waits_without_end_are_refused() {
    let gateway = |limit: &str| {
        let text = format!("state_dir = '/s'\n[limits]\n{limit}");
        toml::from_str::<gateway::GatewayConfig>(&text).unwrap().proxy().map(drop)
    };
    let connector = |limit: &str| {
        let text = format!("state_dir = '/s'\n[limits]\n{limit}");
        toml::from_str::<connector::ConnectorConfig>(&text).unwrap().agent().map(drop)
    };
    for key in ["handshake", "idle", "splice_idle", "connect", "drain"] {
        assert!(gateway(&format!("{key}_seconds = 86400")).is_ok(), "{key}");
        assert!(gateway(&format!("{key}_seconds = 9223372036854775807")).is_err(), "{key}");
    }
    assert!(connector("drain_seconds = 86400").is_ok());
    assert!(connector("drain_seconds = 86401").is_err());
}

#[test]
fn c5_dns_servers_of_the_connector_are_read_or_refused_with_their_key() {
    let read = |dns: &str| {
        let config = toml::from_str::<connector::ConnectorConfig>(&format!("state_dir = \"/x\"\n{dns}"));
        config.map_err(|error| error.to_string()).and_then(|config| config.dns().map_err(|error| error.to_string()))
    };
    let both =
        "[dns]\nservers = [\"10.0.0.53\"]\n[[dns.suffix]]\nname = \"corp.test\"\nservers = [\"tcp:[fd00::53]:53\"]";
    let settings = read(both).unwrap();
    assert_eq!((settings.servers.len(), settings.suffixes.len()), (1, 1));
    assert!(read("").unwrap().servers.is_empty());
    for (bad, word) in [
        ("[dns]\nservers = [\"dns.corp.test\"]", "no DNS server"),
        ("[[dns.suffix]]\nname = \"Corp.test\"\nservers = [\"10.0.0.53\"]", "no DNS suffix"),
        ("[[dns.suffix]]\nname = \"corp.test\"\nservers = []", "no servers"),
    ] {
        let refused = read(bad).unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
}
