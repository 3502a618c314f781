//! Faults of files: what is wrong, and where. All of a file's faults are gathered before any is told.

use std::fmt;

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// Where in the document, such as `actions."post.reply".input.text`; empty for the document itself.
    pub path: String,
    /// What is wrong, in words for whoever wrote the file.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A place in one of the texts that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) source: usize,
    pub(crate) offset: usize,
}

/// A file that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'s> {
    pub(crate) file: &'s str,
    pub(crate) text: &'s str,
}

/// The faults found so far, and the texts that their places point into.
pub(crate) struct Faults<'s> {
    sources: Vec<Source<'s>>,
    found: Vec<Fault>,
}

impl<'s> Faults<'s> {
    pub(crate) fn new(file: &'s str, text: &'s str) -> Self {
        Self { sources: vec![Source { file, text }], found: Vec::new() }
    }

    /// No text yet: each is taken in by `add_source`.
    pub(crate) fn none() -> Self {
        Self { sources: Vec::new(), found: Vec::new() }
    }

    /// Takes in one more text, and tells by which number places point into it.
    pub(crate) fn add_source(&mut self, file: &'s str, text: &'s str) -> usize {
        self.sources.push(Source { file, text });
        self.sources.len() - 1
    }

    pub(crate) fn source(&self, number: usize) -> Option<Source<'s>> {
        self.sources.get(number).copied()
    }

    /// Line and column, both from 1.
    pub(crate) fn position(&self, at: At) -> (usize, usize) {
        let before = self.source(at.source).and_then(|source| source.text.get(..at.offset)).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// A place in words, for a fault that names another one.
    pub(crate) fn line_of(&self, at: At) -> String {
        let file = self.source(at.source).map_or("", |source| source.file);
        format!("{file}:{}", self.position(at).0)
    }

    pub(crate) fn add(&mut self, at: At, path: impl Into<String>, message: impl Into<String>) {
        let fault = Fault { message: message.into(), ..self.one(at, path) };
        self.found.push(fault);
    }

    /// A fault that is not yet one: a place, for a rule that only the whole catalogue can judge.
    pub(crate) fn one(&self, at: At, path: impl Into<String>) -> Fault {
        let (line, column) = self.position(at);
        let file = self.source(at.source).map_or_else(String::new, |source| source.file.to_owned());
        Fault { file, line, column, path: path.into(), message: String::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The faults in the order of their lines, each once.
    pub(crate) fn into_sorted(mut self) -> Vec<Fault> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}
