//! What is wrong with a model, and where.

use std::fmt;

use super::tally;

/// From where to where, counted from 0; the end is the first that no longer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// The first.
    pub start: usize,
    /// Past the last; for lines, the last itself.
    pub end: usize,
}

/// A place in a text of the language. Lines and columns count from 0, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The file, where there are several.
    pub file: Option<String>,
    /// The lines.
    pub line: Span,
    /// The columns.
    pub column: Span,
}

impl Place {
    /// A place within one line.
    pub(crate) fn within(line: usize, start: usize, length: usize) -> Self {
        Self { file: None, line: Span { start: line, end: line }, column: Span { start, end: start + length } }
    }
}

/// One thing that is wrong with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// In words, as OpenFGA's own tools say it.
    pub message: String,
    /// Which kind of fault.
    pub kind: FaultKind,
    /// Where, if there is a text.
    pub place: Option<Place>,
}

/// The kinds of faults that a model can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The text is not of the language.
    Syntax,
    /// Nothing says which schema it is.
    SchemaVersionRequired,
    /// A schema that is not understood.
    InvalidSchema,
    /// A type with a name that is taken.
    ReservedTypeKeyword,
    /// A relation with a name that is taken.
    ReservedRelationKeyword,
    /// A name that is too long or has characters that it may not have.
    InvalidName,
    /// The same thing twice.
    Duplicated,
    /// A relation that the type does not have.
    MissingDefinition,
    /// A type that the model does not have.
    InvalidType,
    /// A relation that another type does not have.
    InvalidRelationType,
    /// No object that the tupleset leads to has the relation.
    InvalidRelationOnTupleset,
    /// A relation after `from` that is more than objects written directly.
    TuplesetNotDirect,
    /// A relation in which nobody can ever stand.
    RelationNoEntryPoint,
    /// A condition that the model does not have.
    ConditionNotDefined,
    /// A condition that no relation uses.
    ConditionNotUsed,
    /// A condition that is kept under another name than its own.
    DifferentNestedConditionName,
    /// A file that would have to be of several modules.
    MultipleModulesInFile,
    /// A module that does not fit to the others.
    Module,
    /// More than is taken: too long, too deep, too many.
    TooLarge,
    /// A condition whose expression is not sound.
    InvalidCondition,
}

impl FaultKind {
    /// The stable name that OpenFGA's tools give it, where they have one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::SchemaVersionRequired => "schema-version-required",
            Self::InvalidSchema => "invalid-schema",
            Self::ReservedTypeKeyword => "reserved-type-keywords",
            Self::ReservedRelationKeyword => "reserved-relation-keywords",
            Self::InvalidName => "invalid-name",
            Self::Duplicated => "duplicated-error",
            Self::MissingDefinition => "missing-definition",
            Self::InvalidType => "invalid-type",
            Self::InvalidRelationType => "invalid-relation-type",
            Self::InvalidRelationOnTupleset => "invalid-relation-on-tupleset",
            Self::TuplesetNotDirect => "tupleuserset-not-direct",
            Self::RelationNoEntryPoint => "relation-no-entry-point",
            Self::ConditionNotDefined => "condition-not-defined",
            Self::ConditionNotUsed => "condition-not-used",
            Self::DifferentNestedConditionName => "different-nested-condition-name",
            Self::MultipleModulesInFile => "multiple-modules-in-file",
            Self::Module => "module",
            Self::TooLarge => "too-large",
            Self::InvalidCondition => "invalid-condition",
        }
    }
}

/// How many faults are told of one model, and about how many bytes of them.
const FAULTS: usize = 10_000;
const FAULT_BYTES: usize = 2 * 1024 * 1024;

/// What is told of one model. Few words can be wrong in very many ways, and a long name be in the message of each: so the list ends
/// at a bound, and says that it did.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    told: Vec<Fault>,
    bytes: usize,
    full: bool,
}

impl Faults {
    /// Tells a fault. The message is not even made where there is no room for it.
    pub(crate) fn tell(&mut self, kind: FaultKind, place: Option<Place>, message: fmt::Arguments<'_>) {
        tally::step(1);
        if self.has_room() {
            self.keep(Fault { message: message.to_string(), kind, place });
        }
    }

    /// Takes a fault that somebody else has told.
    pub(crate) fn add(&mut self, fault: Fault) {
        tally::step(1);
        if self.has_room() {
            self.keep(fault);
        }
    }

    fn keep(&mut self, fault: Fault) {
        let file = fault.place.as_ref().and_then(|place| place.file.as_ref()).map_or(0, String::len);
        self.bytes += fault.message.len() + file;
        self.told.push(fault);
    }

    /// Says so at the end of the list, once, where there is no more room.
    fn has_room(&mut self) -> bool {
        if !self.full && (self.told.len() >= FAULTS || self.bytes >= FAULT_BYTES) {
            self.full = true;
            let message = "there is more that is wrong than is told".to_owned();
            self.told.push(Fault { message, kind: FaultKind::TooLarge, place: None });
        }
        !self.full
    }

    /// Whether what comes now is not told any more.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(crate) fn into_list(self) -> Vec<Fault> {
        self.told
    }
}
