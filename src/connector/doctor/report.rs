//! What the doctor found, step by step: a picture, a word and a sentence each, and what to do where something is wrong.

use serde::Serialize;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// Works, but worth knowing.
    Note,
    /// In the way.
    Bad,
    /// Could not be looked at because of an earlier step, or need not be.
    Skipped,
}

impl Verdict {
    /// A picture and a word: neither colour nor picture carries the meaning alone.
    const fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Good => ("✓", "good"),
            Self::Note => ("!", "note"),
            Self::Bad => ("✗", "bad"),
            Self::Skipped => ("–", "skipped"),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// What.
    pub(super) what: String,
    /// How it ended.
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) said: String,
    /// What to do, where something is wrong.
    pub(super) todo: Option<String>,
}

impl Step {
    pub(super) fn good(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Good, said: said.into(), todo: None }
    }

    pub(super) fn note(what: impl Into<String>, said: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, todo: Some(todo.into()), ..Self::good(what, said) }
    }

    pub(super) fn bad(what: impl Into<String>, said: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, todo: Some(todo.into()), ..Self::good(what, said) }
    }

    pub(super) fn skipped(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::good(what, said) }
    }
}

/// All steps so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Adds a step; gives whether it is not in the way.
    pub(super) fn add(&mut self, step: Step) -> bool {
        let passable = step.verdict != Verdict::Bad;
        self.steps.push(step);
        passable
    }

    /// Whether nothing is in the way.
    pub(super) fn well(&self) -> bool {
        self.steps.iter().all(|step| step.verdict != Verdict::Bad)
    }

    /// For people. Control characters, which could steer the terminal, are shown as `?`.
    pub(super) fn words(&self) -> String {
        let width = self.steps.iter().map(|step| step.what.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for step in &self.steps {
            let (picture, word) = step.verdict.shown();
            text.push_str(&format!("{picture} {word:7}  {:width$}  {}\n", step.what, step.said));
            if let Some(todo) = &step.todo {
                text.push_str(&format!("           {:width$}  → {todo}\n", ""));
            }
        }
        let bad = self.steps.iter().filter(|step| step.verdict == Verdict::Bad).count();
        text.push_str(&match bad {
            0 => "Nothing is in the way.\n".to_owned(),
            1 => "One thing is in the way.\n".to_owned(),
            bad => format!("{bad} things are in the way; begin with the first.\n"),
        });
        text.chars().map(|c| if sluice_node_identity::is_plain(c) || c == '\n' { c } else { '?' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_says_in_words_what_its_picture_shows() {
        let mut report = Report::default();
        assert!(report.add(Step::good("clock", "right")));
        assert!(report.add(Step::note("UDP", "no answer", "open UDP 443")));
        assert!(report.well());
        assert!(!report.add(Step::bad("control", "no\u{1b}[31m answer", "open TCP 443")));
        assert!(report.add(Step::skipped("list", "not joined")));
        assert!(!report.well());
        let words = report.words();
        for line in [
            "✓ good     clock    right\n",
            "! note     UDP      no answer\n",
            "                    → open UDP 443\n",
            "✗ bad      control  no?[31m answer\n",
            "– skipped  list     not joined\n",
            "One thing is in the way.\n",
        ] {
            assert!(words.contains(line), "{line:?} not in:\n{words}");
        }
    }
}
