//! Rules: conditions on a message, and what follows from them.
//!
//! Owns their order and what a failure means. It must never know how a condition is evaluated.
//! Invariants: the first rule with `allow` or `deny` whose condition holds decides; a condition
//! without an outcome denies, whatever its rule would have done; all rules together have one
//! budget for a message.

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use crate::policy::cel::{self, Condition, Facts, Failure, Fault};

/// The rules of a backend, in their order. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules(Option<Arc<[Rule]>>);

/// `[[backends.X.filter.rules]]`.
#[derive(Debug)]
pub struct Rule {
    name: Arc<str>,
    action: Action,
    reason: Arc<str>,
    text: Box<str>,
    condition: Condition,
}

/// What follows when a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The message may not pass.
    Deny,
    /// The message may pass; no further rule is asked.
    Allow,
    /// It is noted, and the next rule is asked.
    Log,
}

/// Why a rule denied a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What the client is told.
    pub reason: Arc<str>,
    /// Its condition had no outcome.
    pub failure: Option<Failure>,
    /// The rules with `action = "log"` that applied before.
    pub notes: Vec<Arc<str>>,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What a message passed with.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) rule: Option<Arc<str>>,
    pub(super) notes: Vec<Arc<str>>,
}

impl Rule {
    /// Checks a rule's condition. `reason` is what a client is told that it denies.
    ///
    /// # Errors
    /// All that is wrong with `when`.
    pub fn new(name: &str, when: &str, action: Action, reason: &str) -> Result<Self, Vec<Fault>> {
        Ok(Self {
            name: name.into(),
            action,
            reason: reason.into(),
            text: when.into(),
            condition: Condition::new(when)?,
        })
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        let parts = |rule: &Self| (rule.name.clone(), rule.action, rule.reason.clone());
        parts(self) == parts(other) && self.text == other.text
    }
}

impl Rules {
    /// These, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self((!rules.is_empty()).then(|| rules.into()))
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// True when a rule reads the arguments.
    #[must_use]
    pub fn read_arguments(&self) -> bool {
        let rules = self.0.as_deref().unwrap_or_default();
        rules.iter().any(|rule| rule.condition.reads_arguments())
    }

    /// Asks the rules about a message.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Result<Passed, Box<Denial>> {
        let mut passed = Passed::default();
        let mut fuel = cel::budget(facts.args.map_or(0, <[u8]>::len));
        for rule in self.0.as_deref().unwrap_or_default() {
            let failure = match rule.condition.holds(facts, &mut fuel) {
                Ok(false) => continue,
                Ok(true) => None,
                Err(failure) => Some(failure),
            };
            match (rule.action, failure) {
                (Action::Log, None) => passed.notes.push(rule.name.clone()),
                (Action::Allow, None) => {
                    passed.rule = Some(rule.name.clone());
                    return Ok(passed);
                }
                (Action::Deny, None) | (_, Some(_)) => {
                    let reason = match rule.action {
                        Action::Deny => rule.reason.clone(),
                        Action::Allow | Action::Log => FAILED.into(),
                    };
                    return Err(Box::new(Denial {
                        rule: rule.name.clone(),
                        reason,
                        failure,
                        notes: passed.notes,
                    }));
                }
            }
        }
        Ok(passed)
    }
}

/// What a client is told when a rule that has no reason has no outcome for its message.
const FAILED: &str = "Denied: this message can't be judged";
