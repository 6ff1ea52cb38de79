//! What is on this machine: state directory, identity, allow-list, and whether the connector runs.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use sluice_connector_agent::Health;
use sluice_connector_wire::{AllowList, Peer, when};
use sluice_node_client::{JoinPlan, Kept, Settings};
use sluice_node_identity::{Role, UnixTime};

use super::report::{Report, Step};
use crate::{
    config::{connector::ConnectorConfig, status::StatusListen},
    connector::local,
};

/// Seconds of a week.
const DAY: u64 = 24 * 3600;
/// A certificate lives 7 days and is renewed each day; with less than this left, renewing has failed for days.
const LITTLE: u64 = 5 * DAY;

/// Looks at modes: nobody but the connector's account may read there.
pub(super) fn state_dir(dir: &Path, tokens: &[PathBuf]) -> Step {
    const WHAT: &str = "state directory";
    let shown = dir.display();
    let meta = match fs::metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Step::note(WHAT, format!("{shown} is not there yet"), "it is made when the connector first starts");
        }
        Err(error) => return unreadable(WHAT, &shown, &error),
    };
    if !meta.is_dir() {
        return Step::bad(WHAT, format!("{shown} is not a directory"), "name a directory as state_dir");
    }
    if meta.mode() & 0o077 != 0 {
        let said = format!("{shown} has mode {:04o}: other accounts can look into it", meta.mode() & 0o7777);
        return Step::bad(WHAT, said, format!("chmod 0700 {shown}"));
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return unreadable(WHAT, &shown, &error),
    };
    let mut count = 0_usize;
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o077 == 0 => count += 1,
            Ok(meta) if meta.is_file() => {
                let said = format!("{} has mode {:04o}", path.display(), meta.mode() & 0o7777);
                return Step::bad(
                    WHAT,
                    said,
                    format!("chmod 0600 {}; if others could read it, join anew", path.display()),
                );
            }
            // The key's own, which keeps its modes itself.
            Ok(_) if tokens.iter().any(|token| token.starts_with(&path)) => {}
            Ok(_) => {
                let said = format!("{} is no file of the connector's", path.display());
                return Step::bad(WHAT, said, "remove it; the directory is the connector's alone");
            }
            // It may have been replaced this moment.
            Err(_) => {}
        }
    }
    Step::good(WHAT, format!("{shown}: mode 0700, {count} files of mode 0600"))
}

fn unreadable(what: &str, shown: &dyn std::fmt::Display, error: &io::Error) -> Step {
    Step::bad(what, format!("{shown} cannot be read: {error}"), "run this as root or as the connector's account")
}

/// The token of the `[key]` table, as far as it can be looked at without its PIN: a wrong one would count as a try.
pub(super) fn key(report: &mut Report, config: &ConnectorConfig) {
    const WHAT: &str = "key";
    let token = match config.settings() {
        Ok(settings) => settings.token,
        Err(error) => {
            report.add(Step::bad(
                WHAT,
                error.to_string(),
                "correct key.pin_file; the connector does not start without it",
            ));
            return;
        }
    };
    let Some(token) = token else { return };
    report.add(match sluice_node_client::look_for_token(&token) {
        Ok(()) => Step::good(WHAT, format!("the token '{}' is there; its PIN was not tried", token.label)),
        Err(error) => Step::bad(
            WHAT,
            format!("{error:#}"),
            "correct the [key] table; the connector does not start without its token",
        ),
    });
}

/// The certificate in use.
pub(super) fn identity(kept: &Kept, now: UnixTime) -> Step {
    const WHAT: &str = "identity";
    let joined = &kept.joined;
    if joined.role != Role::Connector {
        let said = format!("the state directory belongs to {} {}", joined.role, joined.id);
        return Step::bad(WHAT, said, "give each node a state_dir of its own");
    }
    let name = format!("connector {} of {}, site {}", joined.id, joined.tenant, joined.site);
    let leaf = pem::parse(&joined.chain).ok().and_then(|leaf| Peer::from_leaf(leaf.contents()).ok());
    let Some(leaf) = leaf else {
        return Step::bad(WHAT, format!("{name}: its certificate is damaged"), "join anew with a fresh code");
    };
    let (left, ends) = (leaf.not_after.since(now), when(leaf.not_after));
    if left == 0 {
        let todo = "start the connector: it re-joins with its key when control is reached; else join with a fresh code";
        return Step::bad(WHAT, format!("{name}: its certificate ended {ends}"), todo);
    }
    if left < LITTLE {
        let said = format!("{name}: its certificate ends {ends} and was not renewed for days");
        return Step::note(WHAT, said, "let the connector run and reach control; it renews each day");
    }
    Step::good(WHAT, format!("{name}, certificate good until {ends}"))
}

/// What a connector without identity has to join with.
pub(super) fn join_plan(settings: &Settings) -> (Step, Option<JoinPlan>) {
    const WHAT: &str = "identity";
    match sluice_node_client::join_plan(settings) {
        Ok(Some(plan)) => {
            let todo = "start the connector within 15 min after the code was made";
            (Step::note(WHAT, "not joined yet; a join code is there", todo), Some(plan))
        }
        Ok(None) => {
            let todo =
                "sluice admin node add … --role connector, and put the code into control.join_code_file (mode 0600)";
            (Step::bad(WHAT, "not joined, and there is no join code", todo), None)
        }
        Err(error) => (Step::bad(WHAT, format!("{error:#}"), "correct the file, or ask for a fresh code"), None),
    }
}

/// The allow-list kept on disk.
pub(super) fn list(config: &ConnectorConfig, now: UnixTime) -> (Step, Option<AllowList>) {
    const WHAT: &str = "allow-list";
    let list = match super::super::explain::kept_list(config, now) {
        Ok(list) => list,
        Err(error) => {
            let todo = "let the connector run and reach control; if control refuses, its log says why";
            return (Step::bad(WHAT, format!("{error:#}"), todo), None);
        }
    };
    let number = format!("version {} of epoch {}, {} rules", list.version, list.epoch, list.rules.len());
    let ends = when(list.not_after);
    let step = if list.not_after < now {
        let todo = "nothing new is opened until control sends a new list: make control reachable, or sign one";
        Step::bad(WHAT, format!("{number}: ended {ends}"), todo)
    } else if list.rules.is_empty() {
        Step::note(
            WHAT,
            format!("{number}, good until {ends}"),
            "add resources for this connector's site; none is allowed",
        )
    } else {
        Step::good(WHAT, format!("{number}, signature good, until {ends}"))
    };
    (step, Some(list))
}

/// What the running connector says of itself.
pub(super) async fn running(listen: StatusListen) -> Step {
    const WHAT: &str = "service";
    if listen == StatusListen::Off {
        return Step::skipped(WHAT, "the status page is off, so a running connector cannot be asked");
    }
    match local::ask::<Health>(listen, "/health").await {
        Err(error) => Step::note(WHAT, format!("{error:#}"), "start it, if it should run"),
        Ok((_, health)) if health.ok => {
            let up = health.gateways.iter().filter(|gateway| gateway.up).count();
            let of = health.gateways.len();
            Step::good(WHAT, format!("runs; tunnels to {up} of {of} gateways, {} streams", health.streams))
        }
        Ok((_, health)) => {
            let missing = match (&health.list, health.joined) {
                (_, false) => "it has not joined",
                (None, _) => "it has no allow-list",
                (Some(list), _) if list.seconds_left == 0 => "its allow-list has ended",
                _ if health.stale => "control has been silent for longer than control.max_stale_seconds",
                _ => "it has no tunnel to any gateway",
            };
            if let Some(why) = &health.control_refuses {
                let todo = "see this connector in the console; one that is locked must join anew with a fresh code";
                return Step::bad(WHAT, format!("runs, but {missing}, and control refuses it: {why}"), todo);
            }
            let errors = health
                .gateways
                .iter()
                .filter(|gateway| !gateway.up)
                .filter_map(|gateway| gateway.last_errors.first().map(|why| format!("; {}, {why}", gateway.id)));
            let errors: String = errors.take(3).collect();
            Step::bad(WHAT, format!("runs, but {missing}{errors}"), "the other steps say what is in its way")
        }
    }
}
