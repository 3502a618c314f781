//! Why a user stands in a relation to an object; and where he does not, what would have to be written so that he did.
//!
//! The answer is the check's own: its search is watched, and what is shown of a yes is the way by which it was found. What is shown to a
//! no was tried: with those tuples beside the others the check says yes, and without any one of them it does not. Bounded as the check
//! is; it must never say more than was found within the bound.

mod needed;
mod trail;

use std::fmt::{self, Write as _};

use serde_json::{Value as Json, json};

use crate::{
    budget::Budget,
    check::{Asker, Search, Verdict},
    condition::ConditionError,
    query::{Brought, CheckRequest, Limits, QueryError, checked_node, checked_user, lay},
    relationship::Relationship,
    schema::{RelationId, Rule, Schema},
    tuples::{Name, Overlay, Tuples},
};

use needed::Inquiry;
use trail::Recorder;

/// An answer and what it rests on.
#[derive(Debug)]
pub enum Explanation {
    /// Yes, by this way.
    Stands(Step),
    /// No.
    Lacks(Lack),
    /// Neither: a bound or a condition withholds the answer.
    Withheld {
        /// Why.
        error: QueryError,
        /// What stands in the way.
        hindrances: Vec<Hindrance>,
    },
}

/// What a no lacks for being a yes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lack {
    /// Any one of these sets of tuples would give a yes; small ones first, and of the same size the nearest.
    pub needed: Vec<Vec<Relationship>>,
    /// What is there and does not help, because something else stands in its way.
    pub hindrances: Vec<Hindrance>,
    /// Whether everything within the bounds was tried: what is not among `needed` may still help.
    pub is_complete: bool,
}

/// Something that keeps a user from a relation in which he would else stand.
#[derive(Debug, Clone, PartialEq)]
pub enum Hindrance {
    /// Whoever stands there is taken out of a relation of the object, and this is how he came to stand there.
    Excluded {
        /// `type:id`
        object: String,
        /// The relation.
        relation: String,
        /// How he stands in what is taken away.
        by: Step,
    },
    /// A tuple that would help does not hold.
    Condition {
        /// The tuple.
        tuple: Relationship,
        /// Why its condition gave no answer; none where the answer was no.
        error: Option<ConditionError>,
    },
}

/// One step of a way: a relation of an object, the rule that was met there, and by what.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `type:id`
    pub object: String,
    /// The relation.
    pub relation: String,
    /// The relation's definition, or the part of it that was met, as the model's language writes it.
    pub rule: String,
    /// By what.
    pub by: By,
}

/// By what a rule is met.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// It is itself what was asked for: those who stand in this relation stand in it.
    Itself,
    /// This tuple names the user, or all of his type.
    Tuple(Relationship),
    /// He stands in what comes next.
    Next {
        /// The tuple that leads there; none where the rule alone does.
        tuple: Option<Relationship>,
        /// What comes next.
        step: Box<Step>,
    },
    /// He stands in all of these.
    All(Vec<Step>),
    /// He stands in the one, and was shown not to stand in the other.
    Without {
        /// Where he stands.
        step: Box<Step>,
        /// Where he does not, as the language writes it.
        excluded: String,
    },
}

/// Whether a user stands in a relation to an object, and why.
///
/// # Errors
/// [`QueryError`] for a question that is none, and where tuples cannot be read. What a bound or a condition withholds is an answer here.
pub fn explain<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: CheckRequest<'_>,
    limits: &Limits,
) -> Result<Explanation, QueryError> {
    let (object, relation) = checked_node(schema, request.object, request.relation)?;
    let user = checked_user(schema, request.user)?;
    let mut budget = Budget::new(limits, request.brought);
    let mut overlay = lay(schema, tuples, request.brought, limits, &mut budget)?;
    let (place, asker) = (overlay.place(object)?, Asker::new(schema, &mut overlay, user)?);
    let brought = (request.brought, (limits.depth, budget));
    match prove(schema, &overlay, asker, brought, ((place, relation), None)) {
        Ok(Proof::Stands(step)) => Ok(Explanation::Stands(step)),
        Ok(Proof::DoesNot { doubtful }) => {
            let mut lack = Inquiry::new(schema, tuples, overlay, request, limits)?.lack(object, relation)?;
            // Where a circle runs through what is taken away, a tuple may help by ending the doubt, at a place that nothing leads to.
            lack.is_complete &= !doubtful;
            Ok(Explanation::Lacks(lack))
        }
        Ok(Proof::Withheld(error)) | Err(error @ QueryError::TooComplex) => {
            let hindrances = Inquiry::new(schema, tuples, overlay, request, limits)?.hindrances(object, relation)?;
            Ok(Explanation::Withheld { error, hindrances })
        }
        Err(error) => Err(error),
    }
}

/// What a watched search found.
pub(super) enum Proof {
    Stands(Step),
    DoesNot {
        /// Whether only because a circle runs through something that is taken away.
        doubtful: bool,
    },
    Withheld(QueryError),
}

/// Searches from a place or one operand of its rule, and tells the way.
pub(super) fn prove<'a, T: Tuples>(
    schema: &'a Schema,
    overlay: &'a Overlay<'a, T>,
    asker: Asker<T::Object>,
    brought: (Brought<'a>, (usize, Budget<'a>)),
    (place, operand): ((Name<T::Object>, RelationId), Option<&'a Rule>),
) -> Result<Proof, QueryError> {
    let mut search = Search::watched(schema, overlay, asker, brought, Recorder::default());
    let found = search.region(place, operand, 0)?;
    let does_not = Proof::DoesNot { doubtful: !found.is_sure() };
    match found.verdict {
        // A search that says yes has told the recorder where it found the user.
        Verdict::Yes => Ok(search.into_watch().step(schema, overlay).map_or(does_not, Proof::Stands)),
        Verdict::No => Ok(does_not),
        Verdict::Unknown(error) => Ok(Proof::Withheld(error)),
    }
}

impl Explanation {
    /// Yes or no; none where the answer is withheld.
    pub fn answer(&self) -> Option<bool> {
        match self {
            Self::Stands(_) => Some(true),
            Self::Lacks(_) => Some(false),
            Self::Withheld { .. } => None,
        }
    }
}

/// The rule of a relation as the language writes it.
pub(super) fn rule_text(schema: &Schema, relation: RelationId, rule: &Rule) -> String {
    let rules = schema.rules(relation);
    let joined = |children: &[Rule], operator: &str| -> String {
        let texts: Vec<String> = children.iter().map(|child| operand_text(schema, relation, child)).collect();
        texts.join(operator)
    };
    match rule {
        Rule::Direct => {
            let allowed: Vec<String> = rules.allowed.iter().map(|allowed| allowed.text(schema)).collect();
            format!("[{}]", allowed.join(", "))
        }
        Rule::Computed(computed) => schema.rules(*computed).name.clone(),
        Rule::From { tupleset, computed } => {
            let computed = computed.first().map_or("", |relation| schema.rules(*relation).name.as_str());
            format!("{computed} from {}", schema.rules(*tupleset).name)
        }
        Rule::Union(children) => joined(children, " or "),
        Rule::Intersection(children) => joined(children, " and "),
        Rule::Difference(pair) => {
            format!("{} but not {}", operand_text(schema, relation, &pair.0), operand_text(schema, relation, &pair.1))
        }
    }
}

fn operand_text(schema: &Schema, relation: RelationId, rule: &Rule) -> String {
    let text = rule_text(schema, relation, rule);
    match rule {
        Rule::Union(_) | Rule::Intersection(_) | Rule::Difference(_) => format!("({text})"),
        _ => text,
    }
}

fn tuple_json(tuple: &Relationship) -> Json {
    let mut json = json!({ "object": tuple.object, "relation": tuple.relation, "user": tuple.user });
    if let (Some(bound), Some(object)) = (&tuple.condition, json.as_object_mut()) {
        object.insert("condition".to_owned(), json!(bound.name));
    }
    json
}

fn tuple_text(tuple: &Relationship) -> String {
    let under = tuple.condition.as_ref().map(|bound| format!(" with {}", bound.name)).unwrap_or_default();
    format!("{} {} {}{under}", tuple.object, tuple.relation, tuple.user)
}

impl Step {
    /// For programs: `object`, `relation`, `rule`; and by what, each where it applies: `tuple`, `next`, `all`, `without`.
    pub fn to_json(&self) -> Json {
        let mut json = json!({ "object": self.object, "relation": self.relation, "rule": self.rule });
        let mut with = |name: &str, value: Json| {
            if let Some(object) = json.as_object_mut() {
                object.insert(name.to_owned(), value);
            }
        };
        match &self.by {
            By::Itself => {}
            By::Tuple(tuple) => with("tuple", tuple_json(tuple)),
            By::Next { tuple, step } => {
                if let Some(tuple) = tuple {
                    with("tuple", tuple_json(tuple));
                }
                with("next", step.to_json());
            }
            By::All(steps) => with("all", steps.iter().map(Self::to_json).collect()),
            By::Without { step, excluded } => {
                with("next", step.to_json());
                with("without", json!(excluded));
            }
        }
        json
    }

    /// For people: a line a step, what belongs to a step farther in.
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        writeln!(f, "{indent}{}#{}: {}", self.object, self.relation, self.rule)?;
        match &self.by {
            By::Itself => writeln!(f, "{indent}  is what was asked about"),
            By::Tuple(tuple) => writeln!(f, "{indent}  by the tuple {}", tuple_text(tuple)),
            By::Next { tuple, step } => {
                if let Some(tuple) = tuple {
                    writeln!(f, "{indent}  over the tuple {}", tuple_text(tuple))?;
                }
                step.write(f, depth + 1)
            }
            By::All(steps) => steps.iter().try_for_each(|step| step.write(f, depth + 1)),
            By::Without { step, excluded } => {
                step.write(f, depth + 1)?;
                writeln!(f, "{indent}  and does not stand in {excluded}")
            }
        }
    }
}

impl Hindrance {
    /// For programs: `kind` (`excluded` or `condition`) and what it is about.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Excluded { object, relation, by } => {
                json!({ "kind": "excluded", "object": object, "relation": relation, "path": by.to_json() })
            }
            Self::Condition { tuple, error } => json!({
                "kind": "condition", "tuple": tuple_json(tuple), "reason": error.as_ref().map(ToString::to_string)
            }),
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded { object, relation, by } => {
                writeln!(f, "taken out of {object}#{relation}:")?;
                by.write(f, 1)
            }
            Self::Condition { tuple, error: Some(error) } => {
                writeln!(f, "the tuple {} gave no answer: {error}", tuple_text(tuple))
            }
            Self::Condition { tuple, error: None } => {
                writeln!(f, "the condition of the tuple {} is not met", tuple_text(tuple))
            }
        }
    }
}

impl Explanation {
    /// For programs: `allowed` (true, false, or null where the answer is withheld) and, each where it applies, `path`, `needed`,
    /// `hindrances`, `complete` and `withheld`.
    pub fn to_json(&self) -> Json {
        let all = |hindrances: &[Hindrance]| -> Json { hindrances.iter().map(Hindrance::to_json).collect() };
        match self {
            Self::Stands(step) => json!({ "allowed": true, "path": step.to_json() }),
            Self::Lacks(lack) => {
                let sets = lack.needed.iter().map(|set| set.iter().map(tuple_json).collect::<Json>());
                json!({
                    "allowed": false,
                    "needed": sets.collect::<Json>(),
                    "hindrances": all(&lack.hindrances),
                    "complete": lack.is_complete,
                })
            }
            Self::Withheld { error, hindrances } => {
                json!({ "allowed": null, "withheld": error.to_string(), "hindrances": all(hindrances) })
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stands(step) => {
                f.write_str("yes\n")?;
                step.write(f, 1)
            }
            Self::Lacks(lack) => {
                f.write_str("no\n")?;
                for (at, set) in lack.needed.iter().enumerate() {
                    f.write_str(if at == 0 { "  it would be yes with\n" } else { "  or with\n" })?;
                    set.iter().try_for_each(|tuple| writeln!(f, "    {}", tuple_text(tuple)))?;
                }
                if lack.needed.is_empty() {
                    f.write_str("  no tuple that was tried would make it a yes\n")?;
                }
                hindered(f, &lack.hindrances)?;
                if lack.is_complete {
                    Ok(())
                } else {
                    f.write_str("  not everything was tried: the bound was reached\n")
                }
            }
            Self::Withheld { error, hindrances } => {
                writeln!(f, "no answer: {error}")?;
                hindered(f, hindrances)
            }
        }
    }
}

fn hindered(f: &mut fmt::Formatter<'_>, hindrances: &[Hindrance]) -> fmt::Result {
    for hindrance in hindrances {
        let mut text = String::new();
        write!(text, "{hindrance}")?;
        text.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
