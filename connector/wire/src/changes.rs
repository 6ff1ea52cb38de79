//! What one allow-list changes against another, a line each, for whoever is asked to sign it.

use sluice_node_identity::UnixTime;

use crate::{AllowList, Caller};

/// `at` as `2026-03-01 14:05:00Z`.
#[must_use]
pub fn when(at: UnixTime) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let time = i64::try_from(at.0).ok().and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    // The year 10000 is beyond the calendar.
    time.and_then(|time| time.format(&format).ok()).unwrap_or_else(|| format!("second {}", at.0))
}

/// Lines that begin with `+` (new), `-` (gone) or `~` (about the list itself). Without `before` everything is new.
/// What is not named is the same in both.
#[must_use]
pub fn list_changes(before: Option<&AllowList>, after: &AllowList) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(before) = before {
        if before.tenant != after.tenant || before.connector != after.connector {
            let name = |list: &AllowList| format!("{}/{}", list.tenant, list.connector);
            lines.push(format!("~ it was a list for {}, it is one for {}", name(before), name(after)));
        }
        if before.epoch != after.epoch {
            lines
                .push(format!("~ epoch {} becomes {} (control was restored from a backup)", before.epoch, after.epoch));
        }
    }
    let (callers, rules) = before.map_or((&[][..], &[][..]), |before| (&before.callers[..], &before.rules[..]));
    lines.extend(differences("caller", callers, &after.callers, caller));
    lines.extend(differences("rule", rules, &after.rules, ToString::to_string));
    lines
}

fn caller(caller: &Caller) -> String {
    format!("{} with the {} key {}", caller.id, caller.alg, caller.kid)
}

fn differences<T: PartialEq>(what: &str, before: &[T], after: &[T], words: impl Fn(&T) -> String) -> Vec<String> {
    let gone = before.iter().filter(|old| !after.contains(old)).map(|old| format!("- {what} {}", words(old)));
    let new = after.iter().filter(|new| !before.contains(new)).map(|new| format!("+ {what} {}", words(new)));
    gone.chain(new).collect()
}
