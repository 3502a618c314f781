//! Where the relations of a model lead: to which types over the tuples of another relation, and how many ways that makes in all.
//!
//! Few words can make very many ways: each `x from p` leads to each type that `p` can name and that has an `x`. So the ways are
//! counted, at most, before anything walks along them, and of the types that `p` names and those that have an `x` only the fewer
//! are ever looked through.

use std::collections::{HashMap, HashSet};

use super::{Model, Relation, Rewrite, TypeDefinition, tally};

/// How many types and relations a model may have.
const TYPES: usize = 1_000;
const RELATIONS: usize = 20_000;
/// How many ways from relation to relation.
const WAYS: usize = 200_000;

/// Which types have which relations, and which types a tupleset names.
pub(crate) struct Reach<'a> {
    has: HashSet<(&'a str, &'a str)>,
    /// By a relation's name, the types that have it.
    holders: HashMap<&'a str, Vec<&'a str>>,
    types: HashSet<&'a str>,
    /// By the relation itself, for a type that is defined twice has two of a name.
    tuplesets: HashMap<*const Relation, Tupleset<'a>>,
}

/// The types of the model that a tupleset names, each once.
#[derive(Default)]
struct Tupleset<'a> {
    listed: Vec<&'a str>,
    set: HashSet<&'a str>,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(model: &'a Model) -> Self {
        let mut reach = Self {
            has: HashSet::new(),
            holders: HashMap::new(),
            types: model.types.iter().map(|kind| kind.name.as_str()).collect(),
            tuplesets: HashMap::new(),
        };
        for kind in &model.types {
            tally::step(1 + kind.relations.len());
            for relation in kind.relations.keys() {
                if reach.has.insert((&kind.name, relation)) {
                    reach.holders.entry(relation).or_default().push(&kind.name);
                }
            }
        }
        reach
    }

    /// The types that `computed` leads to over the tuples of `through`, each once.
    pub(crate) fn types(&mut self, through: &'a Relation, computed: &str) -> Vec<&'a str> {
        let (tupleset, holders) = self.sides(through, computed);
        tally::step(tupleset.listed.len().min(holders.len()));
        if tupleset.listed.len() <= holders.len() {
            let listed = tupleset.listed.clone();
            listed.into_iter().filter(|named| self.has.contains(&(*named, computed))).collect()
        } else {
            holders.iter().filter(|holder| tupleset.set.contains(*holder)).copied().collect()
        }
    }

    fn sides(&mut self, through: &'a Relation, computed: &str) -> (&Tupleset<'a>, &[&'a str]) {
        let Self { tuplesets, types, holders, .. } = self;
        let tupleset = tuplesets.entry(std::ptr::from_ref(through)).or_insert_with(|| {
            tally::step(through.restrictions.len());
            let mut tupleset = Tupleset::default();
            for restriction in &through.restrictions {
                let name = restriction.type_name.as_str();
                if types.contains(name) && tupleset.set.insert(name) {
                    tupleset.listed.push(name);
                }
            }
            tupleset
        });
        (tupleset, holders.get(computed).map_or(&[], Vec::as_slice))
    }

    /// What there is too much of, if the model is too large to be looked into any further.
    pub(crate) fn too_large(&mut self, model: &'a Model) -> Option<String> {
        let relations = || model.types.iter().flat_map(|kind| kind.relations.values().map(move |one| (kind, one)));
        if model.types.len() > TYPES || relations().count() > RELATIONS {
            return Some(format!("the model has more than {TYPES} types or {RELATIONS} relations"));
        }
        let mut ways = 0_usize;
        for (kind, relation) in relations() {
            ways = ways.saturating_add(self.ways(kind, relation));
        }
        (ways > WAYS && !domain::sabotaged!(RelationModels))
            .then(|| format!("the model has more than {WAYS} ways from relation to relation"))
    }

    /// How many ways lead from a relation, at most. Each leaf counts, for each is walked.
    fn ways(&mut self, kind: &'a TypeDefinition, relation: &'a Relation) -> usize {
        let mut ways = 0_usize;
        for leaf in relation.rewrite.leaves() {
            ways = ways.saturating_add(match leaf {
                Rewrite::From { computed, tupleset } => kind.relations.get(tupleset).map_or(1, |through| {
                    let (tupleset, holders) = self.sides(through, computed);
                    tupleset.listed.len().min(holders.len())
                }),
                Rewrite::This => relation.restrictions.len(),
                _ => 1,
            });
        }
        ways
    }
}
