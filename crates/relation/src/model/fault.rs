//! What is wrong with a model, and where.

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
