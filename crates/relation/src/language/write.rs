//! From a model to its text.

use std::fmt::Write as _;

use crate::model::{Condition, Model, Relation, Rewrite, Source, TypeDefinition};

/// How a model is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// Whether comments say from which module and file everything came.
    pub with_source: bool,
}

/// A model that the language cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The language writes who is assigned directly once, and first.
    #[error(
        "the '{relation}' relation definition under the '{type_name}' type is not supported by the OpenFGA DSL syntax yet"
    )]
    Relation {
        /// The type.
        type_name: String,
        /// Its relation.
        relation: String,
    },
}

/// Writes a model. Relations and conditions are sorted by name; what came from modules is sorted by module and file first.
///
/// # Errors
/// [`Unwritable`] for a definition that JSON can say and the language cannot.
pub fn write(model: &Model, options: WriteOptions) -> Result<String, Unwritable> {
    let mut text = format!("model\n  schema {}\n", model.schema_version);
    let mut types: Vec<&TypeDefinition> = model.types.iter().collect();
    if types.iter().any(|kind| kind.source.module.is_some()) {
        types.sort_by_key(|kind| (&kind.source, &kind.name));
    }
    for kind in types {
        write_type(&mut text, kind, options)?;
    }
    let mut conditions: Vec<(&String, &Condition)> = model.conditions.iter().collect();
    conditions.sort_by_key(|(name, condition)| (&condition.source, *name));
    for (name, condition) in conditions {
        write_condition(&mut text, name, condition, options);
    }
    Ok(text)
}

fn write_type(text: &mut String, kind: &TypeDefinition, options: WriteOptions) -> Result<(), Unwritable> {
    push(text, format_args!("\ntype {}{}\n", kind.name, source_comment("", &kind.source, options)));
    if kind.relations.is_empty() {
        return Ok(());
    }
    text.push_str("  relations\n");
    let mut relations: Vec<(&String, &Relation)> = kind.relations.iter().collect();
    relations.sort_by_key(|(name, relation)| (&relation.source, *name));
    for (name, relation) in relations {
        let definition = definition(relation)
            .ok_or_else(|| Unwritable::Relation { type_name: kind.name.clone(), relation: name.clone() })?;
        let comment = source_comment("extended by: ", &relation.source, options);
        push(text, format_args!("    define {name}: {definition}{comment}\n"));
    }
    Ok(())
}

fn write_condition(text: &mut String, name: &str, condition: &Condition, options: WriteOptions) {
    let parameters: Vec<String> =
        condition.parameters.iter().map(|(name, kind)| format!("{name}: {}", kind.text())).collect();
    let comment = source_comment("", &condition.source, options);
    push(
        text,
        format_args!("\ncondition {name}({}) {{\n  {}\n}}{comment}\n", parameters.join(", "), condition.expression),
    );
}

/// Writing to a text cannot fail.
fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

fn source_comment(lead: &str, source: &Source, options: WriteOptions) -> String {
    match (&source.module, &source.file) {
        (Some(module), Some(file)) if options.with_source => format!(" # {lead}module: {module}, file: {file}"),
        (Some(module), None) if options.with_source => format!(" # {lead}module: {module}"),
        _ => String::new(),
    }
}

/// The definition's text; none if the language has none for it.
fn definition(relation: &Relation) -> Option<String> {
    let restrictions: Vec<String> = relation.restrictions.iter().map(crate::model::Restriction::text).collect();
    let direct = format!("[{}]", restrictions.join(", "));
    let assigned = relation.rewrite.leaves().iter().filter(|leaf| matches!(leaf, Rewrite::This)).count();
    if assigned > 1 || relation.rewrite.depth() > 100 { None } else { expression(&relation.rewrite, &direct, true) }
}

/// `first` says whether a direct assignment may stand here: only at the very beginning.
fn expression(rewrite: &Rewrite, direct: &str, first: bool) -> Option<String> {
    match rewrite {
        Rewrite::This => first.then(|| direct.to_owned()),
        Rewrite::Computed(_) | Rewrite::From { .. } => rewrite.leaf_text(),
        Rewrite::Union(children) => joined(children, " or ", direct, first),
        Rewrite::Intersection(children) => joined(children, " and ", direct, first),
        Rewrite::Difference(pair) => {
            Some(format!("{} but not {}", operand(&pair.0, direct, first)?, operand(&pair.1, direct, false)?))
        }
    }
}

/// Operands in their order, but a direct assignment among them first: that changes nothing but makes it writable.
fn joined(children: &[Rewrite], operator: &str, direct: &str, first: bool) -> Option<String> {
    let mut sorted: Vec<&Rewrite> = children.iter().collect();
    sorted.sort_by_key(|child| !matches!(child, Rewrite::This));
    let texts: Option<Vec<String>> =
        sorted.iter().enumerate().map(|(at, child)| operand(child, direct, first && at == 0)).collect();
    Some(texts?.join(operator))
}

fn operand(rewrite: &Rewrite, direct: &str, first: bool) -> Option<String> {
    let text = expression(rewrite, direct, first)?;
    Some(match rewrite {
        Rewrite::Union(_) | Rewrite::Intersection(_) | Rewrite::Difference(_) => format!("({text})"),
        _ => text,
    })
}
