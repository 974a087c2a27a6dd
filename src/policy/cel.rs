//! CEL, the Common Expression Language, as far as rules need it: conditions about one message.
//!
//! Owns checking and evaluation. The grammar is the `cel` crate's; its interpreter is not used,
//! because it has no types before it runs, no bound on its work, and compiles a regular expression
//! each time it meets one. Here every variable, function and type is known when the file is loaded,
//! patterns are automata by then, and each step costs fuel, so that no message can make a condition
//! take longer than its budget. It must never know what a rule does with the outcome. Invariants:
//! arguments are read where they stand in the message, and only the parts that are asked for; what
//! a child might read in another way (a number that is not the same in every parser, a key that
//! differs in case only) fails the condition instead of being guessed.
//!
//! The language: <https://github.com/google/cel-spec/blob/master/doc/langdef.md>. Left out are
//! messages, optional values and `matches` with a pattern that is not written out.

mod check;
mod clock;
mod eval;
mod facts;
mod function;
mod json;
mod macros;
mod node;
mod operator;
mod place;
mod signature;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::facts::Facts;
use self::{eval::Run, facts::Variable, node::Node, value::Value};

/// A checked condition.
#[derive(Debug)]
pub struct Condition {
    root: Node,
    reads: Vec<Variable>,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Offending bytes of the expression.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Why a condition has no outcome for a message. The texts are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The budget is used up.
    #[error("it took too many steps")]
    Budget,
    /// A map has no such key.
    #[error("no such key")]
    Key,
    /// A list has no such element.
    #[error("no such element")]
    Index,
    /// An operator or function doesn't take values of these types.
    #[error("a value has the wrong type")]
    Types,
    /// A whole number left its bounds, or was divided by zero.
    #[error("arithmetic overflow or division by zero")]
    Arithmetic,
    /// A text is not what it should be converted to.
    #[error("a value can't be converted")]
    Conversion,
    /// A number of the message is not the same number in every parser.
    #[error("a number is out of the range that all parsers share")]
    Number,
    /// A key of the message differs from the one asked for in case only.
    #[error("a key differs from the expected one in case only")]
    LookAlike,
    /// The arguments are there and are no object.
    #[error("the arguments are not an object")]
    Arguments,
}

impl Condition {
    /// Checks an expression whose outcome must be a boolean.
    ///
    /// # Errors
    /// All that is wrong with it, at least one fault.
    pub fn new(text: &str) -> Result<Self, Vec<Fault>> {
        let (root, reads) = check::condition(text)?;
        Ok(Self { root, reads })
    }

    /// True when the arguments matter.
    #[must_use]
    pub fn reads_arguments(&self) -> bool {
        self.reads.contains(&Variable::Args)
    }

    /// Evaluates the condition; what it costs is taken from `fuel`.
    ///
    /// # Errors
    /// [`Failure`]: there is no outcome.
    pub fn holds(&self, facts: &Facts<'_>, fuel: &mut u32) -> Result<bool, Failure> {
        let mut run = Run::new(facts, *fuel);
        let outcome = run.eval(&self.root);
        *fuel = run.fuel_left();
        match outcome? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(Failure::Types),
        }
    }
}

/// Fuel for all the conditions that judge one message: so many steps, each of some ten
/// nanoseconds, and a few looks at all of the arguments, `size` bytes.
#[must_use]
pub fn budget(size: usize) -> u32 {
    let looks = u32::try_from(size / BYTES_PER_STEP).unwrap_or(u32::MAX);
    STEPS.saturating_add(looks.saturating_mul(LOOKS))
}

/// Steps without regard to the message.
const STEPS: u32 = 50_000;
/// Looks at the whole of the arguments.
const LOOKS: u32 = 8;
/// Bytes that are looked at for the price of a step.
const BYTES_PER_STEP: usize = 32;
