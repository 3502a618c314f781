//! Relations in which nobody can ever stand.
//!
//! A relation is possible if some finite set of tuples would put somebody into it. That is the least fixed point of a system of
//! *and* and *or*, which is worked out from the bottom: each relation is looked at again only when one that it depends on turned
//! out to be possible.

use std::collections::HashMap;

use super::{Model, Relation, Rewrite, Shape};

/// A relation in which nobody can stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impossible<'a> {
    pub(super) type_name: &'a str,
    pub(super) relation: &'a str,
    /// Whether the reason is that relations of one type are defined by each other.
    pub(super) is_loop: bool,
}

type Key<'a> = (&'a str, &'a str);

struct Graph<'a> {
    relations: HashMap<Key<'a>, &'a Relation>,
    possible: HashMap<Key<'a>, bool>,
}

/// All relations in which nobody can stand, in the order of the model.
pub(super) fn impossible(model: &Model) -> Vec<Impossible<'_>> {
    let mut graph = Graph { relations: HashMap::new(), possible: HashMap::new() };
    let mut order = Vec::new();
    for kind in &model.types {
        for (name, relation) in &kind.relations {
            let key = (kind.name.as_str(), name.as_str());
            graph.relations.insert(key, relation);
            order.push(key);
        }
    }
    graph.settle(&order);
    let lost: Vec<Key<'_>> = order.into_iter().filter(|key| !graph.is_possible(*key)).collect();
    let looping = graph.looping(&lost);
    lost.into_iter()
        .map(|key| Impossible {
            type_name: key.0,
            relation: key.1,
            is_loop: looping.get(&key).copied().unwrap_or(false),
        })
        .collect()
}

impl<'a> Graph<'a> {
    fn is_possible(&self, key: Key<'_>) -> bool {
        self.possible.get(&key).copied().unwrap_or(false)
    }

    /// Marks everything that is possible.
    fn settle(&mut self, order: &[Key<'a>]) {
        let mut dependents: HashMap<Key<'a>, Vec<Key<'a>>> = HashMap::new();
        for key in order {
            for on in self.needs(*key) {
                dependents.entry(on).or_default().push(*key);
            }
        }
        let mut open: Vec<Key<'a>> = order.to_vec();
        while let Some(key) = open.pop() {
            if self.is_possible(key) {
                continue;
            }
            let Some(relation) = self.relations.get(&key).copied() else { continue };
            if self.stands(key.0, relation, &relation.rewrite) {
                self.possible.insert(key, true);
                open.extend(dependents.get(&key).into_iter().flatten());
            }
        }
    }

    /// Everything that a relation's possibility may depend on.
    fn needs(&self, key: Key<'a>) -> Vec<Key<'a>> {
        let Some(relation) = self.relations.get(&key) else { return Vec::new() };
        let mut needs = Vec::new();
        for leaf in relation.rewrite.leaves() {
            match leaf {
                Rewrite::Computed(computed) => needs.push((key.0, computed.as_str())),
                Rewrite::From { computed, tupleset } => {
                    needs.extend(self.parents(key.0, tupleset).map(|parent| (parent, computed.as_str())));
                }
                _ => needs.extend(relation.restrictions.iter().filter_map(|restriction| match &restriction.shape {
                    Shape::Userset(relation) => Some((restriction.type_name.as_str(), relation.as_str())),
                    _ => None,
                })),
            }
        }
        needs
    }

    /// The types of the objects that a tupleset can name.
    fn parents(&self, type_name: &str, tupleset: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let relation = self.relations.get(&(type_name, tupleset)).copied();
        relation
            .into_iter()
            .flat_map(|relation| &relation.restrictions)
            .map(|restriction| restriction.type_name.as_str())
    }

    /// Whether somebody can stand by this, as far as is known. Calls itself for operators inside each other, which are bounded.
    fn stands(&self, type_name: &str, relation: &Relation, rewrite: &Rewrite) -> bool {
        match rewrite {
            Rewrite::This => relation.restrictions.iter().any(|restriction| match &restriction.shape {
                Shape::Object | Shape::Wildcard => true,
                Shape::Userset(relation) => self.is_possible((&restriction.type_name, relation)),
            }),
            Rewrite::Computed(computed) => self.is_possible((type_name, computed)),
            Rewrite::From { computed, tupleset } => {
                self.parents(type_name, tupleset).any(|parent| self.is_possible((parent, computed)))
            }
            Rewrite::Union(children) => children.iter().any(|child| self.stands(type_name, relation, child)),
            Rewrite::Intersection(children) => children.iter().all(|child| self.stands(type_name, relation, child)),
            Rewrite::Difference(pair) => {
                self.stands(type_name, relation, &pair.0) && self.stands(type_name, relation, &pair.1)
            }
        }
    }

    /// Which of the lost relations lead, from definition to definition within their type, into a circle: those that are left when
    /// all that lead nowhere have been taken away, again and again.
    fn looping(&self, lost: &[Key<'a>]) -> HashMap<Key<'a>, bool> {
        let mut leads: HashMap<Key<'a>, usize> = HashMap::new();
        let mut led_from: HashMap<Key<'a>, Vec<Key<'a>>> = HashMap::new();
        for key in lost {
            let Some(relation) = self.relations.get(key) else { continue };
            let mut to = Vec::new();
            self.blamed(key.0, relation, &relation.rewrite, &mut to);
            leads.insert(*key, to.len());
            for next in to {
                led_from.entry(next).or_default().push(*key);
            }
        }
        let mut ended: Vec<Key<'a>> = leads.iter().filter(|(_, count)| **count == 0).map(|(key, _)| *key).collect();
        while let Some(key) = ended.pop() {
            for from in led_from.get(&key).into_iter().flatten() {
                if let Some(count) = leads.get_mut(from) {
                    *count -= 1;
                    if *count == 0 {
                        ended.push(*from);
                    }
                }
            }
        }
        leads.into_iter().map(|(key, count)| (key, count > 0)).collect()
    }

    /// The relations of the same type because of which nobody can stand by this.
    fn blamed(&self, type_name: &'a str, relation: &Relation, rewrite: &'a Rewrite, to: &mut Vec<Key<'a>>) {
        match rewrite {
            Rewrite::This | Rewrite::From { .. } => {}
            Rewrite::Computed(computed) => to.push((type_name, computed)),
            Rewrite::Union(children) => children.iter().for_each(|child| self.blamed(type_name, relation, child, to)),
            Rewrite::Intersection(children) => {
                let first = children.iter().find(|child| !self.stands(type_name, relation, child));
                if let Some(child) = first {
                    self.blamed(type_name, relation, child, to);
                }
            }
            Rewrite::Difference(pair) => {
                let side = if self.stands(type_name, relation, &pair.0) { &pair.1 } else { &pair.0 };
                self.blamed(type_name, relation, side, to);
            }
        }
    }
}
