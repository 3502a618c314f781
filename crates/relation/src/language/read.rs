//! From the tree of a text to its model, with the places of everything in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    fmt,
};

use super::{
    Parsed,
    grammar::Rule,
    parser::{Branch, Node},
    token::{Kind, Token},
};
use crate::model::{
    Condition, ConditionPlaces, Fault, FaultKind, Faults, LeafPlace, Model, ParameterKind, ParameterType, Place,
    Places, Relation, RelationPlaces, Restriction, RestrictionPlaces, Rewrite, Shape, Source, TypeDefinition,
    TypePlaces,
};

/// The model of a tree that is whole.
///
/// # Errors
/// What is written twice within one text, and `extend` outside of a module.
pub(super) fn read(tree: &Node) -> Result<Parsed, Vec<Fault>> {
    let mut reader = Reader::default();
    if let Some(header) = tree.node(Rule::ModelHeader)
        && let Some(version) = header.token(Kind::SchemaVersion)
    {
        reader.model.schema_version.clone_from(&version.text);
        reader.places.schema = Some(place(version));
    }
    reader.module = tree.node(Rule::ModuleHeader).and_then(|header| header.node(Rule::Identifier)).map(Node::text);
    for kind in tree.nodes(Rule::Types).flat_map(|types| types.nodes(Rule::Type)) {
        reader.type_definition(kind);
    }
    for condition in tree.nodes(Rule::Conditions).flat_map(|conditions| conditions.nodes(Rule::Condition)) {
        reader.condition(condition);
    }
    if reader.faults.is_empty() {
        Ok(Parsed { model: reader.model, places: reader.places, module: reader.module })
    } else {
        Err(reader.faults.into_list())
    }
}

/// Where a token stands.
fn place(token: &Token) -> Place {
    Place::within(token.line, token.column, token.length())
}

/// Where all the tokens of a node stand, without the spaces around them.
fn place_of(node: &Node) -> Place {
    let tokens = node.tokens();
    let mut solid = tokens.iter().filter(|token| !matches!(token.kind, Kind::Whitespace | Kind::Newline));
    let Some(first) = solid.next() else { return Place::default() };
    let last = solid.next_back().unwrap_or(first);
    let mut place = place(first);
    place.line.end = last.line;
    place.column.end = last.column + last.length();
    place
}

#[derive(Default)]
struct Reader {
    model: Model,
    places: Places,
    module: Option<String>,
    faults: Faults,
    extended: HashSet<String>,
}

impl Reader {
    fn fault(&mut self, message: fmt::Arguments<'_>, place: Place) {
        self.faults.tell(FaultKind::Syntax, Some(place), message);
    }

    fn source(&self) -> Source {
        Source { module: self.module.clone(), file: None }
    }

    fn type_definition(&mut self, node: &Node) {
        let Some(name_node) = node.node(Rule::Identifier) else { return };
        let (name, name_place) = (name_node.text(), place_of(name_node));
        let extends = node.token(Kind::Extend).is_some();
        if extends && self.module.is_none() {
            self.fault(format_args!("extend can only be used in a modular model"), name_place.clone());
        }
        if extends && !self.extended.insert(name.clone()) {
            self.fault(format_args!("'{name}' is already extended in file."), name_place.clone());
        }
        let mut relations = BTreeMap::new();
        let mut places = TypePlaces { name: name_place, relations: HashMap::new() };
        for relation in node.nodes(Rule::Relation) {
            let Some(relation_name_node) = relation.node(Rule::Identifier) else { continue };
            let (relation_name, relation_place) = (relation_name_node.text(), place_of(relation_name_node));
            if relations.contains_key(&relation_name) {
                self.fault(format_args!("'{relation_name}' is already defined in '{name}'"), relation_place);
                continue;
            }
            let (definition, mut of_relation) = relation_definition(relation);
            of_relation.name = relation_place;
            places.relations.insert(relation_name.clone(), of_relation);
            relations.insert(relation_name, definition);
        }
        if self.places.types.contains_key(&name) {
            self.places.repeated_types.push(name.clone());
        } else {
            self.places.types.insert(name.clone(), places);
        }
        self.model.types.push(TypeDefinition { name, relations, source: self.source(), extends });
    }

    fn condition(&mut self, node: &Node) {
        let Some(name_node) = node.node(Rule::ConditionName) else { return };
        let (name, name_place) = (name_node.text(), place_of(name_node));
        let mut parameters = BTreeMap::new();
        for parameter in node.nodes(Rule::Parameter) {
            let Some(parameter_node) = parameter.node(Rule::ParameterName) else { continue };
            let parameter_name = parameter_node.text();
            let Some(kind) = parameter.node(Rule::ParameterKind).and_then(parameter_type) else { continue };
            match parameters.entry(parameter_name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(kind);
                }
                Entry::Occupied(taken) => {
                    let parameter = taken.key();
                    let message = format_args!("parameter '{parameter}' is already defined in the condition '{name}'");
                    self.fault(message, place_of(parameter_node));
                }
            }
        }
        if self.model.conditions.contains_key(&name) {
            self.fault(format_args!("condition '{name}' is already defined in the model"), name_place);
            return;
        }
        let expression: String = [Kind::Expression, Kind::ExpressionRest]
            .into_iter()
            .filter_map(|kind| node.token(kind))
            .map(|token| token.text.as_str())
            .collect();
        self.places.conditions.insert(
            name.clone(),
            ConditionPlaces {
                name: name_place,
                expression: node.token(Kind::Expression).map(place).unwrap_or_default(),
            },
        );
        let condition = Condition { name: name.clone(), expression, parameters, source: self.source() };
        self.model.conditions.insert(name, condition);
    }
}

fn parameter_type(node: &Node) -> Option<ParameterType> {
    let plain = node.token(Kind::ParameterType).and_then(|token| ParameterKind::from_name(&token.text));
    match node.token(Kind::ParameterContainer) {
        None => plain.map(ParameterType::plain),
        Some(container) => Some(ParameterType {
            kind: ParameterKind::from_name(&container.text)?,
            of: Some(Box::new(ParameterType::plain(plain?))),
        }),
    }
}

fn relation_definition(node: &Node) -> (Relation, RelationPlaces) {
    let mut places = RelationPlaces::default();
    let mut restrictions = Vec::new();
    let rewrite = node
        .node(Rule::Definition)
        .map_or(Rewrite::This, |definition| rewrite(definition, &mut restrictions, &mut places));
    (Relation { rewrite, restrictions, source: Source::default() }, places)
}

/// The rewrite of a definition. It calls itself once for each pair of parentheses, which the parser has bounded.
fn rewrite(definition: &Node, restrictions: &mut Vec<Restriction>, places: &mut RelationPlaces) -> Rewrite {
    let mut operands = Vec::new();
    let mut operator = None;
    for part in &definition.parts {
        let Branch::Node(node) = part else { continue };
        if node.rule == Rule::Partials {
            for part in &node.parts {
                match part {
                    Branch::Token(token) if token.kind != Kind::Whitespace => operator = Some(token.kind),
                    Branch::Token(_) => {}
                    Branch::Node(node) => operands.push(operand(node, restrictions, places)),
                }
            }
        } else {
            operands.push(operand(node, restrictions, places));
        }
    }
    match operator {
        Some(Kind::Or) => Rewrite::Union(operands),
        Some(Kind::And) => Rewrite::Intersection(operands),
        Some(_) => {
            let subtract = operands.pop().unwrap_or(Rewrite::This);
            let base = operands.pop().unwrap_or(Rewrite::This);
            Rewrite::Difference(Box::new((base, subtract)))
        }
        None => operands.pop().unwrap_or(Rewrite::This),
    }
}

fn operand(node: &Node, restrictions: &mut Vec<Restriction>, places: &mut RelationPlaces) -> Rewrite {
    match node.rule {
        Rule::Direct => {
            for restriction in node.nodes(Rule::Restriction) {
                let (restriction, place) = read_restriction(restriction);
                restrictions.push(restriction);
                places.restrictions.push(place);
            }
            places.leaves.push(LeafPlace { whole: place_of(node), tupleset: None });
            Rewrite::This
        }
        Rule::Rewrite => {
            let mut names = node.nodes(Rule::Identifier);
            let computed = names.next().map(Node::text).unwrap_or_default();
            let tupleset = names.next();
            places.leaves.push(LeafPlace { whole: place_of(node), tupleset: tupleset.map(place_of) });
            match tupleset {
                Some(tupleset) => Rewrite::From { computed, tupleset: tupleset.text() },
                None => Rewrite::Computed(computed),
            }
        }
        _ => node
            .parts
            .iter()
            .find_map(|part| match part {
                Branch::Node(inner) => Some(rewrite(inner, restrictions, places)),
                Branch::Token(_) => None,
            })
            .unwrap_or(Rewrite::This),
    }
}

fn read_restriction(node: &Node) -> (Restriction, RestrictionPlaces) {
    let base = node.node(Rule::RestrictionBase);
    let condition = node.node(Rule::ConditionName);
    let mut names = base.into_iter().flat_map(|base| base.nodes(Rule::Identifier));
    let type_name = names.next().map(Node::text).unwrap_or_default();
    let shape = match names.next() {
        Some(relation) => Shape::Userset(relation.text()),
        None if base.is_some_and(|base| base.token(Kind::Star).is_some()) => Shape::Wildcard,
        None => Shape::Object,
    };
    let places =
        RestrictionPlaces { whole: base.map(place_of).unwrap_or_default(), condition: condition.map(place_of) };
    (Restriction { type_name, shape, condition: condition.map(Node::text) }, places)
}
