//! Rank of a card: priority, then newest. Knows nothing of what the card says.

use sluice_control_sync::Priority;
use sluice_node_identity::UnixTime;

/// One step of priority outweighs every age.
const STEP: i64 = 1 << 40;

/// A rank with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Higher first.
    pub value: i64,
    /// What went into it, for people.
    pub because: Vec<String>,
}

/// Ranks a card.
#[must_use]
pub fn score(priority: Priority, created: UnixTime) -> Score {
    let (steps, why) = match priority {
        Priority::Normal => (0, "normal priority"),
        Priority::High => (1, "high priority"),
    };
    let age = i64::try_from(created.0).unwrap_or(STEP - 1).min(STEP - 1);
    Score { value: steps * STEP + age, because: vec![why.to_owned(), format!("made at {}", created.0)] }
}
