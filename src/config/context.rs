//! What all readers of one file share: its text, the world beside it, and what was found.
//!
//! Owns the list of problems while it grows, the ranges to mask, and the files to watch.

use std::{
    cell::RefCell,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{Strictness, environment::Environment, problem::Problem, sandbox::Grant};

/// A place in the text, bytes.
pub(super) type Span = Range<usize>;

/// One file while it is read.
pub(super) struct Context<'a> {
    /// The whole text.
    pub(super) text: &'a str,
    /// What relative paths are relative to.
    pub(super) base: &'a Path,
    /// The world.
    pub(super) world: &'a dyn Environment,
    /// Who asks.
    pub(super) strictness: Strictness,
    problems: RefCell<Vec<Problem>>,
    masked: RefCell<Vec<Span>>,
    watched: RefCell<Vec<PathBuf>>,
    broken: RefCell<Vec<&'static str>>,
    grants: RefCell<Vec<Grant>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        text: &'a str,
        base: &'a Path,
        world: &'a dyn Environment,
        strictness: Strictness,
    ) -> Self {
        Self {
            text,
            base,
            world,
            strictness,
            problems: RefCell::default(),
            masked: RefCell::default(),
            watched: RefCell::default(),
            broken: RefCell::default(),
            grants: RefCell::default(),
        }
    }

    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Hides a range wherever the source is shown.
    pub(super) fn mask(&self, span: Span) {
        self.masked.borrow_mut().push(span);
    }

    /// Remembers a file whose change matters.
    pub(super) fn watch(&self, path: PathBuf) {
        let mut watched = self.watched.borrow_mut();
        if !watched.contains(&path) {
            watched.push(path);
        }
    }

    /// Remembers what a sandbox grants, to be judged when the gateway's own files are known.
    pub(super) fn grant(&self, path: Option<PathBuf>, span: Span) {
        self.grants.borrow_mut().push((path, span));
    }

    /// All that sandboxes grant.
    pub(super) fn grants(&self) -> Vec<Grant> {
        self.grants.take()
    }

    /// The files to watch, as far as they are known.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        self.watched.borrow().clone()
    }

    /// Remembers a table that couldn't be read, so that references into it are not blamed.
    pub(super) fn mark_broken(&self, table: &'static str) {
        self.broken.borrow_mut().push(table);
    }

    /// True when a table couldn't be read.
    pub(super) fn is_broken(&self, table: &str) -> bool {
        self.broken.borrow().contains(&table)
    }

    /// A path of the file, relative ones from the file's own folder.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// What is missing outside: `check` refuses it, `serve` only says so, because it may appear
    /// before it is needed.
    pub(super) fn absent(&self, message: String) -> Problem {
        match self.strictness {
            Strictness::Check => Problem::error(message),
            Strictness::Serve => Problem::warning(message),
        }
    }

    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<Span>, Vec<PathBuf>) {
        (
            self.problems.into_inner(),
            self.masked.into_inner(),
            self.watched.into_inner(),
        )
    }
}
