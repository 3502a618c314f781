//! A model as JSON, in the form of OpenFGA's API.
//!
//! Written in one form: every relation has its metadata, `directly_related_user_types` even where it is empty. Read leniently in
//! what OpenFGA's own tools leave out (null for nothing), strictly in everything else.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Condition, Model, ParameterKind, ParameterType, Relation, Restriction, Rewrite, Shape, Source, TypeDefinition,
    tally,
};

/// How deep operators may be inside each other.
const DEPTH: usize = 100;

/// A JSON that is no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct JsonModelFault {
    /// Where, as a path of names.
    pub path: String,
    /// What is wrong there.
    pub problem: &'static str,
}

fn fault(path: &str, problem: &'static str) -> JsonModelFault {
    JsonModelFault { path: path.to_owned(), problem }
}

type Read<T> = Result<T, JsonModelFault>;

impl Model {
    /// Reads a model from JSON.
    ///
    /// # Errors
    /// The first thing that is not of the form.
    pub fn from_json(json: &Value) -> Read<Self> {
        let object = object(json, "model")?;
        known(object, "model", &["id", "schema_version", "type_definitions", "conditions"])?;
        let mut model = Self {
            schema_version: optional_text(object, "model", "schema_version")?.unwrap_or_default(),
            ..Self::default()
        };
        for (at, kind) in optional_list(object, "model", "type_definitions")?.iter().enumerate() {
            model.types.push(type_from_json(kind, &format!("type_definitions[{at}]"))?);
        }
        for (name, condition) in optional_object(object, "model", "conditions")? {
            model.conditions.insert(name.clone(), condition_from_json(condition, &format!("conditions.{name}"))?);
        }
        Ok(model)
    }

    /// Writes a model as JSON.
    pub fn to_json(&self) -> Value {
        let types: Vec<Value> = self.types.iter().map(type_to_json).collect();
        let mut model = Map::new();
        if !self.schema_version.is_empty() {
            model.insert("schema_version".to_owned(), json!(self.schema_version));
        }
        if !types.is_empty() {
            model.insert("type_definitions".to_owned(), json!(types));
        }
        if !self.conditions.is_empty() {
            let conditions: Map<String, Value> =
                self.conditions.iter().map(|(name, condition)| (name.clone(), condition_to_json(condition))).collect();
            model.insert("conditions".to_owned(), Value::Object(conditions));
        }
        Value::Object(model)
    }
}

fn type_to_json(kind: &TypeDefinition) -> Value {
    let relations: Map<String, Value> =
        kind.relations.iter().map(|(name, relation)| (name.clone(), rewrite_to_json(&relation.rewrite))).collect();
    let mut metadata = Map::new();
    if !kind.relations.is_empty() {
        let of_relations: Map<String, Value> =
            kind.relations.iter().map(|(name, relation)| (name.clone(), relation_metadata(relation))).collect();
        metadata.insert("relations".to_owned(), Value::Object(of_relations));
    }
    add_source(&mut metadata, &kind.source);
    let metadata = if metadata.is_empty() { Value::Null } else { Value::Object(metadata) };
    json!({ "type": kind.name, "relations": relations, "metadata": metadata })
}

fn relation_metadata(relation: &Relation) -> Value {
    let types: Vec<Value> = relation
        .restrictions
        .iter()
        .map(|restriction| {
            let mut json = Map::new();
            json.insert("type".to_owned(), json!(restriction.type_name));
            match &restriction.shape {
                Shape::Object => {}
                Shape::Wildcard => {
                    json.insert("wildcard".to_owned(), json!({}));
                }
                Shape::Userset(relation) => {
                    json.insert("relation".to_owned(), json!(relation));
                }
            }
            if let Some(condition) = &restriction.condition {
                json.insert("condition".to_owned(), json!(condition));
            }
            Value::Object(json)
        })
        .collect();
    let mut metadata = Map::new();
    metadata.insert("directly_related_user_types".to_owned(), json!(types));
    add_source(&mut metadata, &relation.source);
    Value::Object(metadata)
}

fn add_source(metadata: &mut Map<String, Value>, source: &Source) {
    if let Some(module) = &source.module {
        metadata.insert("module".to_owned(), json!(module));
    }
    if let Some(file) = &source.file {
        metadata.insert("source_info".to_owned(), json!({ "file": file }));
    }
}

/// Calls itself for operators inside each other, which are bounded where a model is made.
pub(crate) fn rewrite_to_json(rewrite: &Rewrite) -> Value {
    let children = |children: &[Rewrite]| -> Value { children.iter().map(rewrite_to_json).collect() };
    match rewrite {
        Rewrite::This => json!({ "this": {} }),
        Rewrite::Computed(relation) => json!({ "computedUserset": { "relation": relation } }),
        Rewrite::From { computed, tupleset } => json!({
            "tupleToUserset": { "computedUserset": { "relation": computed }, "tupleset": { "relation": tupleset } }
        }),
        Rewrite::Union(all) => json!({ "union": { "child": children(all) } }),
        Rewrite::Intersection(all) => json!({ "intersection": { "child": children(all) } }),
        Rewrite::Difference(pair) => {
            json!({ "difference": { "base": rewrite_to_json(&pair.0), "subtract": rewrite_to_json(&pair.1) } })
        }
    }
}

fn condition_to_json(condition: &Condition) -> Value {
    let parameters: Map<String, Value> =
        condition.parameters.iter().map(|(name, kind)| (name.clone(), parameter_to_json(kind))).collect();
    let mut json = Map::new();
    json.insert("name".to_owned(), json!(condition.name));
    json.insert("expression".to_owned(), json!(condition.expression));
    json.insert("parameters".to_owned(), Value::Object(parameters));
    let mut metadata = Map::new();
    add_source(&mut metadata, &condition.source);
    if !metadata.is_empty() {
        json.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Value::Object(json)
}

fn parameter_to_json(kind: &ParameterType) -> Value {
    match &kind.of {
        Some(of) => json!({ "type_name": kind.kind.json_name(), "generic_types": [parameter_to_json(of)] }),
        None => json!({ "type_name": kind.kind.json_name() }),
    }
}

fn object<'a>(json: &'a Value, path: &str) -> Read<&'a Map<String, Value>> {
    json.as_object().ok_or_else(|| fault(path, "is not an object"))
}

/// A member, unless it is absent or null.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn optional_text(object: &Map<String, Value>, path: &str, name: &str) -> Read<Option<String>> {
    match member(object, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(fault(&format!("{path}.{name}"), "is not a text")),
    }
}

fn text(object: &Map<String, Value>, path: &str, name: &str) -> Read<String> {
    optional_text(object, path, name)?.ok_or_else(|| fault(&format!("{path}.{name}"), "is missing"))
}

fn optional_list<'a>(object: &'a Map<String, Value>, path: &str, name: &str) -> Read<&'a [Value]> {
    match member(object, name) {
        None => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(fault(&format!("{path}.{name}"), "is not a list")),
    }
}

fn optional_object<'a>(
    of: &'a Map<String, Value>,
    path: &str,
    name: &str,
) -> Read<impl Iterator<Item = (&'a String, &'a Value)> + use<'a>> {
    let inner = match member(of, name) {
        None => None,
        Some(value) => Some(object(value, &format!("{path}.{name}"))?),
    };
    Ok(inner.into_iter().flatten())
}

/// Refuses members that mean nothing here.
fn known(object: &Map<String, Value>, path: &str, names: &[&str]) -> Read<()> {
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => Err(fault(&format!("{path}.{key}"), "is not known")),
        None => Ok(()),
    }
}

fn source(metadata: Option<&Value>, path: &str) -> Read<Source> {
    let Some(metadata) = metadata else { return Ok(Source::default()) };
    let metadata = object(metadata, path)?;
    let file = match member(metadata, "source_info") {
        None => None,
        Some(info) => optional_text(object(info, path)?, path, "file")?,
    };
    let not_empty = |text: &String| !text.is_empty();
    Ok(Source { module: optional_text(metadata, path, "module")?.filter(not_empty), file: file.filter(not_empty) })
}

fn type_from_json(json: &Value, path: &str) -> Read<TypeDefinition> {
    let kind = object(json, path)?;
    known(kind, path, &["type", "relations", "metadata"])?;
    let name = text(kind, path, "type")?;
    let metadata = member(kind, "metadata");
    let of_relations = match metadata {
        None => None,
        Some(metadata) => {
            let metadata = object(metadata, path)?;
            known(metadata, path, &["relations", "module", "source_info"])?;
            member(metadata, "relations").map(|relations| object(relations, path)).transpose()?
        }
    };
    let mut relations = BTreeMap::new();
    for (relation, json) in optional_object(kind, path, "relations")? {
        let path = format!("{path}.relations.{relation}");
        let metadata = of_relations.and_then(|of| member(of, relation));
        let mut restrictions = Vec::new();
        if let Some(metadata) = metadata {
            let metadata = object(metadata, &path)?;
            known(metadata, &path, &["directly_related_user_types", "module", "source_info"])?;
            for restriction in optional_list(metadata, &path, "directly_related_user_types")? {
                restrictions.push(restriction_from_json(restriction, &path)?);
            }
        }
        let rewrite = rewrite_from_json(json, &path, 0)?;
        relations.insert(relation.clone(), Relation { rewrite, restrictions, source: source(metadata, &path)? });
    }
    Ok(TypeDefinition { name, relations, source: source(metadata, path)?, extends: false })
}

fn restriction_from_json(json: &Value, path: &str) -> Read<Restriction> {
    let json = object(json, path)?;
    known(json, path, &["type", "relation", "wildcard", "condition"])?;
    let not_empty = |text: &String| !text.is_empty();
    let relation = optional_text(json, path, "relation")?.filter(not_empty);
    let shape = match (relation, member(json, "wildcard")) {
        (Some(_), Some(_)) => return Err(fault(path, "has both a relation and a wildcard")),
        (Some(relation), None) => Shape::Userset(relation),
        (None, Some(_)) => Shape::Wildcard,
        (None, None) => Shape::Object,
    };
    Ok(Restriction {
        type_name: text(json, path, "type")?,
        shape,
        condition: optional_text(json, path, "condition")?.filter(not_empty),
    })
}

fn rewrite_from_json(json: &Value, path: &str, depth: usize) -> Read<Rewrite> {
    tally::step(1);
    if depth > DEPTH {
        return Err(fault(path, "has too many operators inside each other"));
    }
    let json = object(json, path)?;
    let mut members = json.iter();
    let (Some((operator, inner)), None) = (members.next(), members.next()) else {
        return Err(fault(path, "is not one operator"));
    };
    let inner = object(inner, path)?;
    let relation_of = |name: &str| -> Read<String> {
        member(inner, name)
            .map(|value| object(value, path))
            .transpose()?
            .map_or_else(|| Err(fault(path, "has no relation")), |inner| text(inner, path, "relation"))
    };
    let children = || -> Read<Vec<Rewrite>> {
        let children: Read<Vec<Rewrite>> = optional_list(inner, path, "child")?
            .iter()
            .map(|child| rewrite_from_json(child, path, depth + 1))
            .collect();
        children
            .and_then(|all| if all.is_empty() { Err(fault(path, "has an operator without operands")) } else { Ok(all) })
    };
    let side = |name: &str| -> Read<Rewrite> {
        let side = member(inner, name).ok_or_else(|| fault(path, "has a difference without both sides"))?;
        rewrite_from_json(side, path, depth + 1)
    };
    match operator.as_str() {
        "this" => Ok(Rewrite::This),
        "computedUserset" => Ok(Rewrite::Computed(text(inner, path, "relation")?)),
        "tupleToUserset" => {
            Ok(Rewrite::From { computed: relation_of("computedUserset")?, tupleset: relation_of("tupleset")? })
        }
        "union" => Ok(Rewrite::Union(children()?)),
        "intersection" => Ok(Rewrite::Intersection(children()?)),
        "difference" => Ok(Rewrite::Difference(Box::new((side("base")?, side("subtract")?)))),
        _ => Err(fault(path, "has an operator that is not known")),
    }
}

fn condition_from_json(json: &Value, path: &str) -> Read<Condition> {
    let condition = object(json, path)?;
    known(condition, path, &["name", "expression", "parameters", "metadata"])?;
    let mut parameters = BTreeMap::new();
    for (name, kind) in optional_object(condition, path, "parameters")? {
        // The path is made where it is needed: the condition's name is in that of each parameter.
        let kind = parameter_from_json(kind, name)
            .map_err(|fault| JsonModelFault { path: format!("{path}.parameters.{}", fault.path), ..fault })?;
        parameters.insert(name.clone(), kind);
    }
    Ok(Condition {
        name: text(condition, path, "name")?,
        expression: text(condition, path, "expression")?,
        parameters,
        source: source(member(condition, "metadata"), path)?,
    })
}

fn parameter_from_json(json: &Value, path: &str) -> Read<ParameterType> {
    let json = object(json, path)?;
    known(json, path, &["type_name", "generic_types"])?;
    let kind = ParameterKind::from_json_name(&text(json, path, "type_name")?)
        .ok_or_else(|| fault(path, "has a type that is not known"))?;
    match (kind.is_container(), optional_list(json, path, "generic_types")?) {
        (false, []) => Ok(ParameterType::plain(kind)),
        (true, [of]) => {
            let of = parameter_from_json(of, path)?;
            if of.of.is_some() {
                return Err(fault(path, "has a container in a container"));
            }
            Ok(ParameterType { kind, of: Some(Box::new(of)) })
        }
        _ => Err(fault(path, "must say of what it is a container, and nothing else must")),
    }
}
