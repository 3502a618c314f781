//! From a model to a schema.

use std::collections::{BTreeMap, HashMap};

use super::{Allowed, AllowedShape, By, Dependent, Kind, RelationId, RelationRules, Rule, Schema, TypeId};
use crate::{
    condition::{Compiled, MOST_OF_PATTERNS},
    model::{Fault, FaultKind, Model, Reach, Relation, Rewrite, Shape, TypeDefinition, tally, validate},
};

pub(super) fn compile(model: Model) -> Result<Schema, Vec<Fault>> {
    let mut faults: Vec<Fault> =
        validate(&model).into_iter().filter(|fault| fault.kind != FaultKind::ConditionNotUsed).collect();
    let conditions = conditions(&model, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let (types, by_name) = (Vec::new(), HashMap::new());
    let mut schema = Schema { model, types, by_name, relations: Vec::new(), conditions, ways: 0 };
    number(&mut schema);
    schema.relations = all_rules(&schema);
    schema.ways = schema.relations.iter().map(|rules| ways(&rules.rule, rules.allowed.len())).sum();
    let dependents = all_dependents(&schema);
    for (relation, dependent) in dependents {
        if let Some(rules) = schema.relations.get_mut(relation.0 as usize) {
            rules.dependents.push(dependent);
        }
    }
    Ok(schema)
}

fn too_much(message: String) -> Vec<Fault> {
    vec![Fault { message, kind: FaultKind::TooLarge, place: None }]
}

/// How many ways lead from a rule, of which a direct one leads to whoever is allowed. Operators inside each other are bounded by the
/// model's validation.
fn ways(rule: &Rule, allowed: usize) -> usize {
    match rule {
        Rule::Direct => allowed,
        Rule::Computed(_) => 1,
        Rule::From { computed, .. } => computed.len(),
        Rule::Union(children) | Rule::Intersection(children) => children.iter().map(|child| ways(child, allowed)).sum(),
        Rule::Difference(pair) => ways(&pair.0, allowed) + ways(&pair.1, allowed),
    }
}

fn conditions(model: &Model, faults: &mut Vec<Fault>) -> BTreeMap<String, Compiled> {
    let (mut conditions, mut effort) = (BTreeMap::new(), 0);
    for (name, condition) in &model.conditions {
        if effort > MOST_OF_PATTERNS && !domain::sabotaged!(RelationPatternsTogether) {
            faults.extend(too_much("the patterns of the model's conditions cost too much".to_owned()));
            break;
        }
        match Compiled::counted(condition, &mut effort) {
            Ok(compiled) => drop(conditions.insert(name.clone(), compiled)),
            Err(fault) => faults.push(Fault {
                message: format!("the condition `{name}`: {fault}"),
                kind: FaultKind::InvalidCondition,
                place: None,
            }),
        }
    }
    conditions
}

/// Gives every type and every relation its number.
fn number(schema: &mut Schema) {
    let mut next = (0..).map(RelationId);
    for (id, kind) in (0..).map(TypeId).zip(&schema.model.types) {
        let relations = kind.relations.keys().cloned().zip(&mut next).collect();
        schema.by_name.insert(kind.name.clone(), id);
        schema.types.push(Kind { name: kind.name.clone(), relations });
    }
}

fn all_rules(schema: &Schema) -> Vec<RelationRules> {
    let (mut rules, mut reach) = (Vec::new(), Reach::new(&schema.model));
    for (of, kind) in (0..).map(TypeId).zip(&schema.model.types) {
        for (name, relation) in &kind.relations {
            rules.push(RelationRules {
                name: name.clone(),
                type_name: kind.name.clone(),
                rule: rule((schema, &mut reach), (of, kind), &relation.rewrite),
                allowed: allowed(schema, relation),
                dependents: Vec::new(),
            });
        }
    }
    rules
}

fn allowed(schema: &Schema, relation: &Relation) -> Vec<Allowed> {
    let one = |restriction: &crate::model::Restriction| {
        let of = schema.type_of(&restriction.type_name).ok()?;
        let shape = match &restriction.shape {
            Shape::Object => AllowedShape::Object,
            Shape::Wildcard => AllowedShape::Wildcard,
            Shape::Userset(relation) => AllowedShape::Userset(schema.relation(of, relation)?),
        };
        let type_name = schema.type_name(of).to_owned();
        Some(Allowed { of, type_name, shape, condition: restriction.condition.clone() })
    };
    relation.restrictions.iter().filter_map(one).collect()
}

/// What is not there makes nobody stand; validation has found it before, as it has bounded how many ways there are.
fn rule<'a>(
    (schema, reach): (&'a Schema, &mut Reach<'a>),
    (of, kind): (TypeId, &'a TypeDefinition),
    rewrite: &'a Rewrite,
) -> Rule {
    tally::step(1);
    let nobody = || Rule::Union(Vec::new());
    let mut one = |rewrite: &'a Rewrite| rule((schema, &mut *reach), (of, kind), rewrite);
    match rewrite {
        Rewrite::This => Rule::Direct,
        Rewrite::Computed(computed) => schema.relation(of, computed).map_or_else(nobody, Rule::Computed),
        Rewrite::From { computed, tupleset } => {
            let (Some(through), Some(tupleset)) = (kind.relations.get(tupleset), schema.relation(of, tupleset)) else {
                return nobody();
            };
            let parents = reach.types(through, computed).into_iter();
            let mut parents: Vec<RelationId> =
                parents.filter_map(|parent| schema.relation_of(parent, computed).ok()).collect();
            parents.sort();
            parents.dedup();
            Rule::From { tupleset, computed: parents }
        }
        Rewrite::Union(children) => Rule::Union(children.iter().map(one).collect()),
        Rewrite::Intersection(children) => Rule::Intersection(children.iter().map(one).collect()),
        Rewrite::Difference(pair) => Rule::Difference(Box::new((one(&pair.0), one(&pair.1)))),
    }
}

/// What hangs on what. What is taken away by an exclusion lets nobody stand, and is not among it.
fn all_dependents(schema: &Schema) -> Vec<(RelationId, Dependent)> {
    let mut all = Vec::new();
    for (relation, rules) in schema.relations() {
        let mut open = vec![(&rules.rule, true)];
        while let Some((rule, enough)) = open.pop() {
            let mut hangs = |on: RelationId, by: By| {
                tally::step(1);
                all.push((on, Dependent { relation, by, enough }));
            };
            match rule {
                Rule::Direct => rules.allowed.iter().for_each(|allowed| {
                    if let AllowedShape::Userset(on) = allowed.shape {
                        hangs(on, By::Userset);
                    }
                }),
                Rule::Computed(on) => hangs(*on, By::Computed),
                Rule::From { tupleset, computed } => {
                    for on in computed {
                        hangs(*on, By::From(*tupleset));
                    }
                }
                Rule::Union(children) => open.extend(children.iter().map(|child| (child, enough))),
                Rule::Intersection(children) => open.extend(children.iter().map(|child| (child, false))),
                Rule::Difference(pair) => open.push((&pair.0, false)),
            }
        }
    }
    all
}
