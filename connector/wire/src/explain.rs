//! Why a list lets a caller reach a target, or why not: every rule's verdict, and what decides.

use std::fmt;

use ipnetwork::IpNetwork;
use serde::Serialize;
use sluice_node_identity::UnixTime;

use crate::{AllowList, Question, Verdict, when};

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What each rule says, in the list's order.
    pub rules: Vec<Judged>,
    /// What comes of it.
    pub decision: Decision,
}

/// One rule and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Its name, as in logs.
    pub rule: String,
    /// The rule in words.
    pub covers: String,
    /// What it says.
    pub verdict: Verdict,
}

/// What a list decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// A stream would be opened, if the address passes the dial guard.
    Allowed {
        /// The first rule that lets it pass.
        rule: String,
        /// As which resource.
        resource: String,
        /// When the last of the rules that let it pass ends; a running stream is cut then at the latest.
        until: Option<UnixTime>,
        /// Own networks in which the address may lie; public addresses always may.
        networks: Vec<IpNetwork>,
    },
    /// No rule lets it pass: what is not allowed is denied.
    NoRule,
    /// No key of this caller is on the list, so that its tokens are not believed.
    UnknownCaller,
    /// Nothing new is opened.
    ListEnded {
        /// Seconds ago.
        ago: u64,
    },
}

impl Explanation {
    /// Whether a stream would be opened.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        matches!(self.decision, Decision::Allowed { .. })
    }
}

/// What `list` says to `question` at `now`.
#[must_use]
pub fn explain(list: &AllowList, question: &Question<'_>, now: UnixTime) -> Explanation {
    let judged = |rule: &crate::AllowRule| Judged {
        rule: rule.name().to_owned(),
        covers: rule.to_string(),
        verdict: rule.judge(question, now),
    };
    Explanation { rules: list.rules.iter().map(judged).collect(), decision: decide(list, question, now) }
}

fn decide(list: &AllowList, question: &Question<'_>, now: UnixTime) -> Decision {
    if !list.callers.iter().any(|caller| caller.id == question.caller) {
        return Decision::UnknownCaller;
    }
    let Some(first) = list.rules.iter().find(|rule| rule.allows(question, now)) else { return Decision::NoRule };
    if list.not_after < now {
        return Decision::ListEnded { ago: now.since(list.not_after) };
    }
    // A token names one resource; only that one's rules help it.
    let asked = Question { resource: Some(&first.resource), ..*question };
    let passing: Vec<_> = list.rules.iter().filter(|rule| rule.allows(&asked, now)).collect();
    let ends: Option<Vec<UnixTime>> = passing.iter().map(|rule| rule.holds_until(now)).collect();
    Decision::Allowed {
        rule: first.name().to_owned(),
        resource: first.resource.to_string(),
        until: ends.and_then(|ends| ends.into_iter().max()),
        networks: passing.iter().flat_map(|rule| rule.own_networks()).collect(),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allows { until: None } => f.write_str("allows"),
            Self::Allows { until: Some(until) } => write!(f, "allows, until {}", when(*until)),
            Self::OtherProtocol => f.write_str("is for the other transport"),
            Self::OtherHost => f.write_str("is for other hosts"),
            Self::OtherPort => f.write_str("is for other ports"),
            Self::OtherResource => f.write_str("is for another resource"),
            Self::OtherCaller => f.write_str("is for other callers"),
            Self::Closed { opens } => write!(f, "does not hold at this hour; again from {}", when(*opens)),
            Self::Over { since } => write!(f, "was an exception and ended {}", when(*since)),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { rule, resource, until, networks } => {
                write!(f, "allowed by rule {rule}, as resource {resource}")?;
                if let Some(until) = until {
                    write!(f, ", until {}", when(*until))?;
                }
                f.write_str("; the address must be public")?;
                for (index, network) in networks.iter().enumerate() {
                    write!(f, "{} {network}", if index == 0 { " or in" } else { "," })?;
                }
                Ok(())
            }
            Self::NoRule => f.write_str("denied by default: no rule allows it"),
            Self::UnknownCaller => f.write_str("denied: the list holds no key of this caller"),
            Self::ListEnded { ago } => write!(f, "denied: the list ended {ago} s ago by this machine's clock"),
        }
    }
}
