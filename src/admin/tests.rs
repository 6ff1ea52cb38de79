//! The command line: every example parses, secrets stay out of arguments, lists are read whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use clap::{CommandFactory, Parser};

use super::{Args, fleet::row};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn call(line: &str) -> anyhow::Result<super::Call> {
    let line = Line::try_parse_from(std::iter::once("sluice").chain(line.split_whitespace()))?;
    line.args.what.call()
}

#[test]
fn the_command_line_is_well_formed() {
    Line::command().debug_assert();
}

#[test]
fn commands_become_the_requests_they_stand_for() {
    let node = call("node add edge-1 --tenant acme --role edge --site branch-1").unwrap();
    assert_eq!((node.method.as_str(), node.path.as_str()), ("POST", "/tenants/acme/nodes"));
    assert_eq!(node.body.unwrap()["role"], "edge");
    let change = call("resource change sql --tenant acme --site dc --target sql.test:1433 --for-users").unwrap();
    assert_eq!((change.method.as_str(), change.path.as_str()), ("PUT", "/tenants/acme/resources/sql"));
    for (line, path) in [
        ("resource remove sql --tenant acme", "/tenants/acme/resources/sql"),
        ("app remove wiki --tenant acme", "/tenants/acme/apps/wiki"),
    ] {
        let remove = call(line).unwrap();
        assert_eq!((remove.method.as_str(), remove.path.as_str()), ("DELETE", path));
    }
    let revoke = call("hub revoke hub-1 --tenant acme").unwrap();
    assert_eq!(revoke.path, "/tenants/acme/hubs/hub-1/revoke");
    let app = "app add wiki --tenant acme --name Wiki --host wiki.acme.test --resource wiki --group staff";
    assert_eq!(call(app).unwrap().body.unwrap()["place"]["resource"]["resource"], "wiki");
    let classes = call("class set --tenant acme --class thin=SluiceHub --class tv=AppleTV").unwrap();
    assert_eq!(classes.body.unwrap()["classes"][1]["vendor_class"], "AppleTV");
    assert!(!call("owner claim --link-file /dev/null").is_ok_and(|call| call.needs_token));
}

#[test]
fn names_and_impossible_combinations_are_refused_before_anything_is_sent() {
    assert!(call("node add Edge_1 --tenant acme --role edge --site branch-1").is_err());
    assert!(call("node add edge-1 --tenant acme --role printer --site branch-1").is_err());
    assert!(call("app add wiki --tenant acme --name W --host w.acme.test").is_err());
    assert!(call("app add wiki --tenant acme --name W --host w.acme.test --resource a --direct b:1").is_err());
    assert!(call("class set --tenant acme --class nothing").is_err());
}

#[test]
fn secrets_come_from_files_never_from_arguments() {
    let command = Line::command();
    let mut open = vec![&command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands());
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let secret = ["password", "secret", "token", "link"].iter().any(|word| name.contains(word));
            assert!(!secret || name.ends_with("_file"), "{} --{name}", command.get_name());
        }
    }
}

#[test]
fn e8_a_line_of_a_hub_list_is_read_or_refused() {
    let hub = row("hub-7; branch-1 ;SN-0007").unwrap();
    assert_eq!((hub.id.as_str(), hub.site.as_str(), hub.serial.as_deref()), ("hub-7", "branch-1", Some("SN-0007")));
    assert_eq!(row("hub-7,branch-1").unwrap().serial, None);
    for bad in ["hub-7", "hub 7;branch-1", "hub-7;branch-1;s;x", "\"hub-7\";branch-1", ";branch-1"] {
        assert!(row(bad).is_err(), "{bad}");
    }
}

#[test]
fn c5_g7_rules_and_exceptions_are_written_as_people_say_them() {
    let add = "resource add sql --tenant acme --site dc --for-control";
    let body = |more: &str| call(&format!("{add} {more}")).unwrap().body.unwrap();
    let sql = body("--target sql.test --protocol udp --ports 1433-1434 --hosts *.test");
    assert_eq!(
        (&sql["target"], &sql["ports"], &sql["hosts"]),
        (&"udp:sql.test:1433".into(), &"1433-1434".into(), &"*.test".into())
    );
    assert_eq!(body("--target [2001:db8::1]:22")["target"], "tcp:[2001:db8::1]:22");
    assert_eq!(body("--target udp:sql.test:53")["target"], "udp:sql.test:53");
    for wrong in ["--target sql.test", "--target tcp:sql.test:1 --protocol udp", "--target x:1 --ports 2-1"] {
        assert!(call(&format!("{add} {wrong}")).is_err(), "{wrong}");
    }
    let words = ["sluice", "resource", "add", "r", "--tenant", "acme", "--site", "dc", "--target", "x:1"];
    let timed = Line::try_parse_from([&words[..], &["--times", "mon-fri 06:00-18:00"]].concat()).unwrap();
    assert_eq!(timed.args.what.call().unwrap().body.unwrap()["times"][0], "mon-fri 06:00-18:00");
    assert!(Line::try_parse_from([&words[..], &["--times", "always"]].concat()).is_err());
    let add = "exception add --tenant acme --site dc --target pump:22 --caller gw-1 --caller control --why x --for";
    let made = call(&format!("{add} 1h30m")).unwrap().body.unwrap();
    assert_eq!((made["seconds"].as_u64(), made["callers"][1].as_str()), (Some(5400), Some("control")));
    for wrong in ["4", "h", "0h", "4d", "-1h", "99999999999999999999h", "1h1"] {
        assert!(call(&format!("{add} {wrong}")).is_err(), "{wrong}");
    }
}
