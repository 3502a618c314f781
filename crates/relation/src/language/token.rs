//! The tokens of the language, and sets of them.
//!
//! Their order is that in which a message lists what was expected.

use std::fmt;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    End,
    Colon,
    Comma,
    Less,
    Greater,
    LeftBracket,
    LeftParen,
    RightParen,
    Whitespace,
    Identifier,
    Hash,
    RightBracket,
    And,
    Or,
    ButNot,
    From,
    Module,
    Model,
    Schema,
    SchemaVersion,
    Extend,
    Type,
    Condition,
    Relations,
    Relation,
    Define,
    With,
    ExtendedIdentifier,
    Newline,
    Star,
    LeftBrace,
    RightBrace,
    ParameterType,
    ParameterContainer,
    Expression,
    ExpressionRest,
    Unknown,
}

impl Kind {
    const ALL: [Self; 37] = [
        Self::End,
        Self::Colon,
        Self::Comma,
        Self::Less,
        Self::Greater,
        Self::LeftBracket,
        Self::LeftParen,
        Self::RightParen,
        Self::Whitespace,
        Self::Identifier,
        Self::Hash,
        Self::RightBracket,
        Self::And,
        Self::Or,
        Self::ButNot,
        Self::From,
        Self::Module,
        Self::Model,
        Self::Schema,
        Self::SchemaVersion,
        Self::Extend,
        Self::Type,
        Self::Condition,
        Self::Relations,
        Self::Relation,
        Self::Define,
        Self::With,
        Self::ExtendedIdentifier,
        Self::Newline,
        Self::Star,
        Self::LeftBrace,
        Self::RightBrace,
        Self::ParameterType,
        Self::ParameterContainer,
        Self::Expression,
        Self::ExpressionRest,
        Self::Unknown,
    ];

    /// As a message shows it.
    const fn display(self) -> &'static str {
        match self {
            Self::End => "<EOF>",
            Self::Colon => "':'",
            Self::Comma => "','",
            Self::Less => "'<'",
            Self::Greater => "'>'",
            Self::LeftBracket => "'['",
            Self::LeftParen => "'('",
            Self::RightParen => "')'",
            Self::Whitespace => "WHITESPACE",
            Self::Identifier => "IDENTIFIER",
            Self::Hash => "'#'",
            Self::RightBracket => "']'",
            Self::And => "'and'",
            Self::Or => "'or'",
            Self::ButNot => "'but not'",
            Self::From => "'from'",
            Self::Module => "'module'",
            Self::Model => "'model'",
            Self::Schema => "'schema'",
            Self::SchemaVersion => "SCHEMA_VERSION",
            Self::Extend => "'extend'",
            Self::Type => "'type'",
            Self::Condition => "'condition'",
            Self::Relations => "'relations'",
            Self::Relation => "'relation'",
            Self::Define => "'define'",
            Self::With => "'with'",
            Self::ExtendedIdentifier => "EXTENDED_IDENTIFIER",
            Self::Newline => "NEWLINE",
            Self::Star => "'*'",
            Self::LeftBrace => "'{'",
            Self::RightBrace => "'}'",
            Self::ParameterType => "CONDITION_PARAM_TYPE",
            Self::ParameterContainer => "CONDITION_PARAM_CONTAINER",
            Self::Expression | Self::ExpressionRest => "CONDITION_EXPRESSION",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A piece of text, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// Counted from 0.
    pub(super) line: usize,
    /// In characters, counted from 0.
    pub(super) column: usize,
}

impl Token {
    /// How long it is, in characters.
    pub(super) fn length(&self) -> usize {
        self.text.chars().count()
    }

    /// As a message shows it: between quotes, on one line.
    pub(super) fn display(&self) -> String {
        format!("'{}'", one_line(&self.text))
    }
}

/// The text with its line breaks and tabs written out.
pub(super) fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// Some kinds of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kinds(u64);

impl Kinds {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(kind: Kind) -> Self {
        Self(1 << kind as u8)
    }

    pub(super) fn any_of(kinds: &[Kind]) -> Self {
        kinds.iter().fold(Self::NONE, |all, kind| all.or(Self::of(*kind)))
    }

    pub(super) fn all_but(kinds: &[Kind]) -> Self {
        let all = Self::any_of(&Kind::ALL);
        Self(all.0 & !Self::of(Kind::End).0 & !Self::any_of(kinds).0)
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// As a message lists them: alone, or between braces.
impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Kind::ALL.into_iter().filter(|kind| self.has(*kind)).map(Kind::display).collect();
        match names.as_slice() {
            [only] => f.write_str(only),
            _ => write!(f, "{{{}}}", names.join(", ")),
        }
    }
}
