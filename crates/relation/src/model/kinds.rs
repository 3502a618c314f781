//! The types that a condition's parameter can have, by the names that the language and JSON give them.

/// The type of a condition's parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterType {
    /// Which type.
    pub kind: ParameterKind,
    /// Of what: the element of a list, the values of a map.
    pub of: Option<Box<ParameterType>>,
}

impl ParameterType {
    /// A type that contains no other.
    pub const fn plain(kind: ParameterKind) -> Self {
        Self { kind, of: None }
    }

    /// As the language writes it.
    pub fn text(&self) -> String {
        match &self.of {
            Some(of) => format!("{}<{}>", self.kind.name(), of.text()),
            None => self.kind.name().to_owned(),
        }
    }
}

/// Which type a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// Anything.
    Any,
    /// True or false.
    Bool,
    /// Text.
    String,
    /// A whole number of 64 bits.
    Int,
    /// A whole number of 64 bits that is not negative.
    Uint,
    /// A floating-point number of 64 bits.
    Double,
    /// A span of time, such as `1h30m`.
    Duration,
    /// A moment, in the form of RFC 3339.
    Timestamp,
    /// An address, IPv4 or IPv6.
    IpAddress,
    /// Values by text.
    Map,
    /// Values in a row.
    List,
}

impl ParameterKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Any,
        Self::Bool,
        Self::String,
        Self::Int,
        Self::Uint,
        Self::Double,
        Self::Duration,
        Self::Timestamp,
        Self::IpAddress,
        Self::Map,
        Self::List,
    ];

    /// As the language names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::IpAddress => "ipaddress",
            Self::Map => "map",
            Self::List => "list",
        }
    }

    /// As JSON names it.
    pub const fn json_name(self) -> &'static str {
        match self {
            Self::Any => "TYPE_NAME_ANY",
            Self::Bool => "TYPE_NAME_BOOL",
            Self::String => "TYPE_NAME_STRING",
            Self::Int => "TYPE_NAME_INT",
            Self::Uint => "TYPE_NAME_UINT",
            Self::Double => "TYPE_NAME_DOUBLE",
            Self::Duration => "TYPE_NAME_DURATION",
            Self::Timestamp => "TYPE_NAME_TIMESTAMP",
            Self::IpAddress => "TYPE_NAME_IPADDRESS",
            Self::Map => "TYPE_NAME_MAP",
            Self::List => "TYPE_NAME_LIST",
        }
    }

    /// Whether it contains another type.
    pub const fn is_container(self) -> bool {
        matches!(self, Self::Map | Self::List)
    }

    /// The one that the language calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The one that JSON calls so.
    pub fn from_json_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.json_name() == name)
    }
}
