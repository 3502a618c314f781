//! Relations in which nobody can ever stand.
//!
//! A relation is possible if some finite set of tuples would put somebody into it. That is the least fixed point of a system of
//! *and* and *or*, which is worked out from the bottom: each part of a definition counts how many others it still waits for, and
//! every way between two parts is walked once.

use std::collections::HashMap;

use super::{Model, Relation, Rewrite, Shape, TypeDefinition, reach::Reach, tally};

/// A relation in which nobody can stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impossible<'a> {
    pub(super) type_name: &'a str,
    pub(super) relation: &'a str,
    /// Whether the reason is that relations of one type are defined by each other.
    pub(super) is_loop: bool,
}

type Key<'a> = (&'a str, &'a str);

/// A part of a definition, or a relation.
#[derive(Default)]
struct Part {
    /// How many more parts must be possible until it is.
    waits: usize,
    /// The parts that wait for it, one entry for each time that they do.
    leads: Vec<usize>,
    blame: Blame,
}

/// Whose fault it is, within the type, if a part is not possible.
#[derive(Default)]
enum Blame {
    /// Nobody's of the type.
    #[default]
    Elsewhere,
    /// The relation itself is to be asked.
    Relation,
    /// All of these.
    All(Vec<usize>),
    /// The first of these that is not possible.
    First(Vec<usize>),
}

struct Graph<'a, 'r> {
    reach: &'r mut Reach<'a>,
    /// The relations come first among the parts.
    relations: HashMap<Key<'a>, usize>,
    parts: Vec<Part>,
}

/// All relations in which nobody can stand, in the order of the model.
pub(super) fn impossible<'a>(model: &'a Model, reach: &mut Reach<'a>) -> Vec<Impossible<'a>> {
    let mut graph = Graph { reach, relations: HashMap::new(), parts: Vec::new() };
    let (mut order, mut defined) = (Vec::new(), Vec::new());
    for kind in &model.types {
        for (name, relation) in &kind.relations {
            let key = (kind.name.as_str(), name.as_str());
            let Graph { relations, parts, .. } = &mut graph;
            let part = *relations.entry(key).or_insert_with(|| {
                order.push(key);
                defined.push((kind, relation));
                parts.push(Part { waits: 1, leads: Vec::new(), blame: Blame::Relation });
                parts.len() - 1
            });
            // Of a type that is defined twice, the last definition counts.
            if let Some(defined) = defined.get_mut(part) {
                *defined = (kind, relation);
            }
        }
    }
    let roots: Vec<usize> = defined
        .into_iter()
        .enumerate()
        .map(|(part, (kind, relation))| {
            let mut direct = None;
            let root = graph.lay(kind, relation, &relation.rewrite, &mut direct);
            graph.link(root, part);
            root
        })
        .collect();
    graph.settle();
    let looping = graph.looping(&roots);
    let lost = order.into_iter().zip(looping).enumerate().filter(|(part, _)| !graph.is_possible(*part));
    lost.map(|(_, ((type_name, relation), is_loop))| Impossible { type_name, relation, is_loop }).collect()
}

impl<'a> Graph<'a, '_> {
    fn is_possible(&self, part: usize) -> bool {
        self.parts.get(part).is_some_and(|part| part.waits == 0)
    }

    fn add(&mut self, waits: usize, blame: Blame) -> usize {
        tally::step(1);
        self.parts.push(Part { waits, leads: Vec::new(), blame });
        self.parts.len() - 1
    }

    /// `to` waits for `from`.
    fn link(&mut self, from: usize, to: usize) {
        tally::step(1);
        if let Some(from) = self.parts.get_mut(from) {
            from.leads.push(to);
        }
    }

    /// Makes the parts of a rewrite; tells the outermost. Calls itself for operators inside each other, which are bounded.
    fn lay(
        &mut self,
        kind: &'a TypeDefinition,
        relation: &'a Relation,
        rewrite: &'a Rewrite,
        direct: &mut Option<usize>,
    ) -> usize {
        let mut all = |of: Vec<&'a Rewrite>| -> Vec<usize> {
            of.into_iter().map(|child| self.lay(kind, relation, child, direct)).collect()
        };
        let blame: fn(Vec<usize>) -> Blame;
        let (waits, children) = match rewrite {
            // However often it is written, it is one and the same.
            Rewrite::This => return *direct.get_or_insert_with(|| self.lay_direct(relation)),
            Rewrite::Computed(computed) => {
                let part = self.relations.get(&(kind.name.as_str(), computed.as_str())).copied();
                return part.unwrap_or_else(|| self.add(1, Blame::Elsewhere));
            }
            Rewrite::From { computed, tupleset } => {
                let through = kind.relations.get(tupleset);
                let types = through.map(|through| self.reach.types(through, computed)).unwrap_or_default();
                let reached = types.into_iter().filter_map(|reached| self.relations.get(&(reached, computed.as_str())));
                blame = |_| Blame::Elsewhere;
                (1, reached.copied().collect())
            }
            Rewrite::Union(children) => {
                blame = Blame::All;
                (1, all(children.iter().collect()))
            }
            Rewrite::Intersection(children) => {
                blame = Blame::First;
                (children.len(), all(children.iter().collect()))
            }
            Rewrite::Difference(pair) => {
                blame = Blame::First;
                (2, all(vec![&pair.0, &pair.1]))
            }
        };
        let part = self.add(waits, Blame::Elsewhere);
        for child in &children {
            self.link(*child, part);
        }
        if let Some(part) = self.parts.get_mut(part) {
            part.blame = blame(children);
        }
        part
    }

    fn lay_direct(&mut self, relation: &'a Relation) -> usize {
        let part = self.add(1, Blame::Elsewhere);
        for restriction in &relation.restrictions {
            match &restriction.shape {
                Shape::Object | Shape::Wildcard => {
                    if let Some(part) = self.parts.get_mut(part) {
                        part.waits = 0;
                    }
                }
                Shape::Userset(relation) => {
                    let key = (restriction.type_name.as_str(), relation.as_str());
                    if let Some(of) = self.relations.get(&key).copied() {
                        self.link(of, part);
                    }
                }
            }
        }
        part
    }

    /// Marks everything that is possible: each part that becomes so tells those that wait for it, once.
    fn settle(&mut self) {
        let mut open: Vec<usize> = (0..self.parts.len()).filter(|part| self.is_possible(*part)).collect();
        while let Some(part) = open.pop() {
            let leads = self.parts.get_mut(part).map(|part| std::mem::take(&mut part.leads)).unwrap_or_default();
            tally::step(1 + leads.len());
            for to in leads {
                if let Some(waiting) = self.parts.get_mut(to)
                    && waiting.waits > 0
                {
                    waiting.waits -= 1;
                    if waiting.waits == 0 {
                        open.push(to);
                    }
                }
            }
        }
    }

    /// Which of the lost relations lead, from definition to definition within their type, into a circle: those that are left when
    /// all that lead nowhere have been taken away, again and again.
    fn looping(&self, roots: &[usize]) -> Vec<bool> {
        let mut leads = vec![0_usize; roots.len()];
        let mut led_from: Vec<Vec<usize>> = vec![Vec::new(); roots.len()];
        for (relation, root) in roots.iter().enumerate().filter(|(relation, _)| !self.is_possible(*relation)) {
            for next in self.blamed(*root) {
                if let (Some(count), Some(from)) = (leads.get_mut(relation), led_from.get_mut(next)) {
                    *count += 1;
                    from.push(relation);
                }
            }
        }
        let mut ended: Vec<usize> =
            leads.iter().enumerate().filter(|(_, count)| **count == 0).map(|(relation, _)| relation).collect();
        while let Some(relation) = ended.pop() {
            let all = led_from.get(relation).map_or(&[][..], Vec::as_slice);
            tally::step(1 + all.len());
            for from in all {
                if let Some(count) = leads.get_mut(*from) {
                    *count -= 1;
                    if *count == 0 {
                        ended.push(*from);
                    }
                }
            }
        }
        leads.into_iter().map(|count| count > 0).collect()
    }

    /// The relations of the same type because of which a definition is not possible.
    fn blamed(&self, root: usize) -> Vec<usize> {
        let mut blamed = Vec::new();
        let mut open = vec![root];
        while let Some(at) = open.pop() {
            tally::step(1);
            match self.parts.get(at).map(|part| &part.blame) {
                Some(Blame::Relation) => blamed.push(at),
                Some(Blame::All(parts)) => open.extend(parts),
                Some(Blame::First(parts)) => {
                    tally::step(parts.len());
                    open.extend(parts.iter().find(|part| !self.is_possible(**part)));
                }
                Some(Blame::Elsewhere) | None => {}
            }
        }
        blamed
    }
}
