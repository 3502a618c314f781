//! How a relation to an object comes about: one level of it, as a tree.

use serde_json::{Value as Json, json};

use crate::{
    budget::Budget,
    query::{ExpandRequest, Limits, QueryError, checked_node, lay},
    relationship::{UserRef, is_of_type},
    schema::{AT_ONCE, RelationId, Rule, Schema},
    tuples::{Name, Overlay, Tuples},
};

/// A part of the tree: of which relation of which object, and what makes somebody stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `type:id#relation`
    pub name: String,
    /// What makes somebody stand in it.
    pub branch: Branch,
}

/// What makes somebody stand in a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Branch {
    /// These tuples name them.
    Users(Vec<String>),
    /// Those who stand in `type:id#relation`.
    Computed(String),
    /// Those who stand in these relations, to which the tuples of that relation lead.
    From {
        /// `type:id#relation`
        tupleset: String,
        /// Each `type:id#relation`.
        computed: Vec<String>,
    },
    /// Any of these.
    Union(Vec<Node>),
    /// All of these.
    Intersection(Vec<Node>),
    /// The first, and not the second.
    Difference(Box<(Node, Node)>),
}

/// The tree. Conditions are not asked: it shows what may be.
///
/// # Errors
/// [`QueryError`].
pub fn expand<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: ExpandRequest<'_>,
    limits: &Limits,
) -> Result<Node, QueryError> {
    let (object, relation) = checked_node(schema, request.object, request.relation)?;
    let mut budget = Budget::new(limits, request.brought);
    let mut overlay = lay(schema, tuples, request.brought, limits, &mut budget)?;
    let object = overlay.place(object)?;
    let mut expansion = Expansion { schema, tuples: &overlay, object, relation, budget };
    expansion.node(&schema.rules(relation).rule)
}

struct Expansion<'a, T: Tuples> {
    schema: &'a Schema,
    tuples: &'a Overlay<'a, T>,
    object: Name<T::Object>,
    relation: RelationId,
    budget: Budget<'a>,
}

impl<T: Tuples> Expansion<'_, T> {
    fn name(&self, relation: RelationId) -> String {
        format!("{}#{}", self.tuples.name(self.object), self.schema.rules(relation).name)
    }

    /// Calls itself for operators inside each other, which a model bounds.
    fn node(&mut self, rule: &Rule) -> Result<Node, QueryError> {
        self.budget.spend(1)?;
        let branch = match rule {
            Rule::Direct => Branch::Users(self.users(self.relation)?),
            Rule::Computed(relation) => Branch::Computed(self.name(*relation)),
            Rule::From { tupleset, computed } => {
                let parents = self.users(*tupleset)?;
                self.budget.spend(parents.len() * (computed.len() / AT_ONCE))?;
                let of = |parent: &String| {
                    let has = |relation: &&RelationId| is_of_type(parent, &self.schema.rules(**relation).type_name);
                    computed.iter().find(has).map(|relation| format!("{parent}#{}", self.schema.rules(*relation).name))
                };
                Branch::From { tupleset: self.name(*tupleset), computed: parents.iter().filter_map(of).collect() }
            }
            Rule::Union(children) => Branch::Union(self.nodes(children)?),
            Rule::Intersection(children) => Branch::Intersection(self.nodes(children)?),
            Rule::Difference(pair) => Branch::Difference(Box::new((self.node(&pair.0)?, self.node(&pair.1)?))),
        };
        Ok(Node { name: self.name(self.relation), branch })
    }

    fn nodes(&mut self, rules: &[Rule]) -> Result<Vec<Node>, QueryError> {
        rules.iter().map(|rule| self.node(rule)).collect()
    }

    /// The users of the relation's tuples, sorted, each once.
    fn users(&mut self, relation: RelationId) -> Result<Vec<String>, QueryError> {
        let rules = self.schema.rules(relation);
        let mut users = Vec::new();
        for row in self.tuples.users(self.object, &rules.name)? {
            self.budget.spend(rules.cost())?;
            let user = UserRef { object: self.tuples.name(row.user.object), relation: row.user.relation };
            if rules.allows(self.schema, user, row.condition) {
                users.push(user.to_string());
            }
        }
        users.sort();
        users.dedup();
        Ok(users)
    }
}

impl Node {
    /// As OpenFGA's API shows it.
    pub fn to_json(&self) -> Json {
        let nodes = |nodes: &[Node]| -> Json { nodes.iter().map(Node::to_json).collect() };
        let userset = |name: &String| json!({ "userset": name });
        match &self.branch {
            Branch::Users(users) => json!({ "name": self.name, "leaf": { "users": { "users": users } } }),
            Branch::Computed(of) => json!({ "name": self.name, "leaf": { "computed": userset(of) } }),
            Branch::From { tupleset, computed } => {
                let computed: Vec<Json> = computed.iter().map(userset).collect();
                json!({ "name": self.name, "leaf": { "tupleToUserset": { "tupleset": tupleset, "computed": computed } } })
            }
            Branch::Union(children) => json!({ "name": self.name, "union": { "nodes": nodes(children) } }),
            Branch::Intersection(children) => {
                json!({ "name": self.name, "intersection": { "nodes": nodes(children) } })
            }
            Branch::Difference(pair) => json!({
                "name": self.name, "difference": { "base": pair.0.to_json(), "subtract": pair.1.to_json() }
            }),
        }
    }
}
