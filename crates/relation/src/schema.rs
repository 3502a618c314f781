//! A model that was validated, in the form in which questions are answered by it.
//!
//! Names have become numbers, and every relation knows which others hang on it. A schema never changes: a question is answered by
//! one of them from beginning to end, whatever is put in its place meanwhile.

mod compile;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use crate::{
    condition::{Compiled, fits},
    model::{Fault, Model, ParameterType},
    relationship::{BoundCondition, ObjectRef, Relationship, UserRef, is_of_type},
};

/// A relation of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RelationId(pub(crate) u32);

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TypeId(pub(crate) u32);

/// A model by which questions are answered. The empty one answers none.
#[derive(Default)]
pub struct Schema {
    model: Model,
    types: Vec<Kind>,
    by_name: HashMap<String, TypeId>,
    relations: Vec<RelationRules>,
    conditions: BTreeMap<String, Compiled>,
    /// How many ways there are from relation to relation.
    ways: usize,
}

struct Kind {
    name: String,
    relations: HashMap<String, RelationId>,
}

/// What holds of a relation.
#[derive(Debug)]
pub(crate) struct RelationRules {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) rule: Rule,
    pub(crate) allowed: Vec<Allowed>,
    /// What hangs on it.
    pub(crate) dependents: Vec<Dependent>,
}

/// What makes a user stand in a relation.
#[derive(Debug)]
pub(crate) enum Rule {
    Direct,
    Computed(RelationId),
    /// Over the tuples of a relation, to the relation that each type has.
    From {
        tupleset: RelationId,
        computed: Vec<RelationId>,
    },
    Union(Vec<Rule>),
    Intersection(Vec<Rule>),
    Difference(Box<(Rule, Rule)>),
}

impl Rule {
    /// How many parts it has.
    pub(crate) fn children(&self) -> usize {
        match self {
            Self::Direct | Self::Computed(_) | Self::From { .. } => 0,
            Self::Union(children) | Self::Intersection(children) => children.len(),
            Self::Difference(_) => 2,
        }
    }
}

/// About how many bytes a way from relation to relation takes, at both of its ends.
const WAY_BYTES: usize = 32;

/// How many of those who may be written into a relation, or of those on which it hangs, are looked through as one step.
pub(crate) const AT_ONCE: usize = 16;

/// Who may be written into a relation.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) of: TypeId,
    pub(crate) type_name: String,
    pub(crate) shape: AllowedShape,
    pub(crate) condition: Option<String>,
}

impl Allowed {
    /// As the language writes it.
    pub(crate) fn text(&self, schema: &Schema) -> String {
        let shape = match self.shape {
            AllowedShape::Object => self.type_name.clone(),
            AllowedShape::Wildcard => format!("{}:*", self.type_name),
            AllowedShape::Userset(relation) => format!("{}#{}", self.type_name, schema.rules(relation).name),
        };
        match &self.condition {
            Some(condition) => format!("{shape} with {condition}"),
            None => shape,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedShape {
    Object,
    Wildcard,
    Userset(RelationId),
}

/// How a relation hangs on another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dependent {
    pub(crate) relation: RelationId,
    pub(crate) by: By,
    /// Whether standing in the one is enough for standing in the other.
    pub(crate) enough: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// Its tuples may name those who stand in it.
    Userset,
    /// It is defined by it.
    Computed,
    /// It is defined by it over the tuples of this relation.
    From(RelationId),
}

/// A tuple that is none of the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TupleFault {
    /// Not `type:id`.
    #[error("'{0}' is no object")]
    Object(String),
    /// Neither `type:id` nor `type:*` nor `type:id#relation`.
    #[error("'{0}' is no user")]
    User(String),
    /// The model does not have the type.
    #[error("the type '{0}' is not defined")]
    Type(String),
    /// The type does not have the relation.
    #[error("the relation '{relation}' is not defined on the type '{type_name}'")]
    Relation {
        /// The type.
        type_name: String,
        /// The relation.
        relation: String,
    },
    /// The relation does not let such a user be written.
    #[error("'{user}' may not be written into '{relation}' of '{type_name}'{}", .condition.as_ref().map(|name| format!(" under '{name}'")).unwrap_or_default())]
    NotAllowed {
        /// The type.
        type_name: String,
        /// The relation.
        relation: String,
        /// The user.
        user: String,
        /// The condition.
        condition: Option<String>,
    },
    /// The tuple says of those who stand somewhere that they stand there.
    #[error("'{0}' stands there without a tuple")]
    Implicit(String),
    /// The tuple says of the condition what it is not about.
    #[error("the context does not fit the condition '{0}'")]
    Context(String),
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({} types, {} relations)", self.types.len(), self.relations.len())
    }
}

impl Schema {
    /// Takes a model.
    ///
    /// # Errors
    /// Everything that is wrong with it, its conditions' expressions too. A condition that nobody uses is no harm here.
    pub fn new(model: Model) -> Result<Self, Vec<Fault>> {
        compile::compile(model)
    }

    /// The model that it was made of.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether a tuple is one of the model.
    ///
    /// # Errors
    /// [`TupleFault`].
    pub fn admit(&self, tuple: &Relationship) -> Result<(), TupleFault> {
        let object = ObjectRef::parse(&tuple.object)
            .filter(|object| object.id != "*")
            .ok_or_else(|| TupleFault::Object(tuple.object.clone()))?;
        let relation = self.relation_of(object.type_name, &tuple.relation)?;
        let user = UserRef::parse(&tuple.user).ok_or_else(|| TupleFault::User(tuple.user.clone()))?;
        self.known_user(user)?;
        if user.object == object.text && user.relation == Some(&tuple.relation) {
            return Err(TupleFault::Implicit(tuple.user.clone()));
        }
        let condition = tuple.condition.as_ref();
        if !self.rules(relation).allows(self, user, condition) {
            return Err(TupleFault::NotAllowed {
                type_name: object.type_name.to_owned(),
                relation: tuple.relation.clone(),
                user: tuple.user.clone(),
                condition: condition.map(|condition| condition.name.clone()),
            });
        }
        match condition {
            Some(bound) if !self.parameters(&bound.name).is_some_and(|known| fits(known, &bound.context)) => {
                Err(TupleFault::Context(bound.name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// How many steps it takes to say whether a tuple is one of the model.
    pub(crate) fn cost_of(&self, tuple: &Relationship) -> usize {
        let of = ObjectRef::parse(&tuple.object).map_or("", |object| object.type_name);
        self.relation_of(of, &tuple.relation).map_or(1, |relation| self.rules(relation).cost())
    }

    /// Whether the model knows such a user.
    pub(crate) fn known_user(&self, user: UserRef<'_>) -> Result<(), TupleFault> {
        let type_name = user.type_name();
        match user.relation {
            Some(relation) => self.relation_of(type_name, relation).map(|_| ()),
            None => self.type_of(type_name).map(|_| ()),
        }
    }

    pub(crate) fn type_of(&self, name: &str) -> Result<TypeId, TupleFault> {
        self.by_name.get(name).copied().ok_or_else(|| TupleFault::Type(name.to_owned()))
    }

    pub(crate) fn relation_of(&self, type_name: &str, relation: &str) -> Result<RelationId, TupleFault> {
        let of = self.type_of(type_name)?;
        self.relation(of, relation)
            .ok_or_else(|| TupleFault::Relation { type_name: type_name.to_owned(), relation: relation.to_owned() })
    }

    pub(crate) fn relation(&self, of: TypeId, name: &str) -> Option<RelationId> {
        self.types.get(of.0 as usize)?.relations.get(name).copied()
    }

    pub(crate) fn rules(&self, relation: RelationId) -> &RelationRules {
        static NOTHING: RelationRules = RelationRules {
            name: String::new(),
            type_name: String::new(),
            rule: Rule::Union(Vec::new()),
            allowed: Vec::new(),
            dependents: Vec::new(),
        };
        self.relations.get(relation.0 as usize).unwrap_or(&NOTHING)
    }

    pub(crate) fn relations(&self) -> impl Iterator<Item = (RelationId, &RelationRules)> {
        (0..).map(RelationId).zip(&self.relations)
    }

    pub(crate) fn condition(&self, name: &str) -> Option<&Compiled> {
        self.conditions.get(name)
    }

    /// How many ways there are from relation to relation.
    pub(crate) fn ways(&self) -> usize {
        self.ways
    }

    /// About how many bytes it takes, its model not counted.
    pub fn bytes(&self) -> usize {
        let allowed = |rules: &RelationRules| rules.allowed.iter().map(|one| 64 + one.type_name.len()).sum::<usize>();
        let relations =
            self.relations.iter().map(|rules| 256 + rules.name.len() + rules.type_name.len() + allowed(rules));
        let conditions = self.conditions.values().map(Compiled::bytes);
        relations.chain(conditions).sum::<usize>() + self.ways * WAY_BYTES
    }

    fn parameters(&self, condition: &str) -> Option<&BTreeMap<String, ParameterType>> {
        self.model.conditions.get(condition).map(|condition| &condition.parameters)
    }

    fn type_name(&self, of: TypeId) -> &str {
        self.types.get(of.0 as usize).map_or("", |kind| &kind.name)
    }
}

impl RelationRules {
    /// How many steps it takes to look at one tuple of the relation: whether it is the model's is looked up among all who may be written.
    pub(crate) fn cost(&self) -> usize {
        if domain::sabotaged!(RelationWeights) {
            return 1;
        }
        1 + self.allowed.len() / AT_ONCE
    }

    /// Whether such a user may be in a tuple of the relation: what an older model let in is no tuple of this one.
    pub(crate) fn allows(&self, schema: &Schema, user: UserRef<'_>, condition: Option<&BoundCondition>) -> bool {
        self.allowed.iter().any(|allowed| {
            is_of_type(user.object, &allowed.type_name)
                && allowed.condition.as_deref() == condition.map(|bound| bound.name.as_str())
                && match allowed.shape {
                    AllowedShape::Object => user.relation.is_none() && !user.is_wildcard(),
                    AllowedShape::Wildcard => user.is_wildcard(),
                    AllowedShape::Userset(relation) => {
                        user.relation.is_some_and(|name| schema.rules(relation).name == name)
                    }
                }
        })
    }

    /// The relation of those who are named by a user of a tuple, if the tuple is one of the model.
    pub(crate) fn userset(
        &self,
        schema: &Schema,
        user: UserRef<'_>,
        condition: Option<&BoundCondition>,
    ) -> Option<RelationId> {
        let name = user.relation?;
        self.allowed.iter().find_map(|allowed| match allowed.shape {
            AllowedShape::Userset(relation)
                if is_of_type(user.object, &allowed.type_name)
                    && schema.rules(relation).name == name
                    && allowed.condition.as_deref() == condition.map(|bound| bound.name.as_str()) =>
            {
                Some(relation)
            }
            _ => None,
        })
    }
}
