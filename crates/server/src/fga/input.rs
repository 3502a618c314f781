//! The parts that bodies of OpenFGA's API have in common, read strictly.
//!
//! Null and an empty text stand for nothing where a field may be left out, as its clients send them.

use domain::id::RelationModelId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service::fga::{BoundCondition, Context, Relationship};
use utoipa::ToSchema;

use crate::input::{Fields, FromJson, Reader};

/// The most items of a list in a body: more than any operation takes.
const MOST_ITEMS: usize = 1_000;

/// A condition that a tuple carries.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = FgaCondition)]
pub(super) struct ConditionBody {
    /// The condition's name in the model.
    pub(super) name: String,
    /// What the tuple says of its parameters.
    #[schema(value_type = Option<Object>)]
    pub(super) context: Option<Map<String, Value>>,
}

/// A tuple.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = FgaTupleKey)]
pub(super) struct TupleBody {
    /// `type:id`, `type:*`, or `type:id#relation`.
    pub(super) user: String,
    /// The relation.
    pub(super) relation: String,
    /// `type:id`
    pub(super) object: String,
    /// The condition under which it holds.
    pub(super) condition: Option<ConditionBody>,
}

impl From<&Relationship> for TupleBody {
    fn from(tuple: &Relationship) -> Self {
        let condition = tuple.condition.as_ref();
        Self {
            user: tuple.user.clone(),
            relation: tuple.relation.clone(),
            object: tuple.object.clone(),
            condition: condition
                .map(|bound| ConditionBody { name: bound.name.clone(), context: Some(bound.context.clone()) }),
        }
    }
}

/// What is asked about: an object, a relation and a user.
#[derive(ToSchema)]
#[schema(as = FgaCheckKey)]
#[expect(dead_code, reason = "the shape of a part of bodies, for the document")]
pub(super) struct CheckKeyBody {
    /// `type:id`, `type:*`, or `type:id#relation`.
    user: String,
    /// The relation.
    relation: String,
    /// `type:id`
    object: String,
}

/// Tuples that count for one question only.
#[derive(ToSchema)]
#[schema(as = FgaContextualTuples)]
#[expect(dead_code, reason = "the shape of a part of bodies, for the document")]
pub(super) struct ContextualBody {
    /// At most 100.
    tuple_keys: Vec<TupleBody>,
}

/// An object of JSON, whose members must each be asked for.
pub(super) fn members<'a>(value: &'a Value, at: &str, from: &mut Reader<'_>) -> Option<Fields<'a>> {
    if let Value::Object(members) = value {
        return Some(Fields::new(members, at.to_owned()));
    }
    from.fault(at, "is an object");
    None
}

/// A text; an empty one is none.
pub(super) fn text(fields: &mut Fields<'_>, from: &mut Reader<'_>, name: &'static str) -> Option<String> {
    fields.optional::<String>(from, name).filter(|text| !text.is_empty())
}

/// A text that must be there and must not be empty.
pub(super) fn word(fields: &mut Fields<'_>, from: &mut Reader<'_>, name: &'static str) -> Option<String> {
    let (at, text) = (fields.at(name), fields.required::<String>(from, name)?);
    if text.is_empty() {
        from.fault(at, "is not empty");
        return None;
    }
    Some(text)
}

/// The model that a body names.
pub(super) fn model(fields: &mut Fields<'_>, from: &mut Reader<'_>) -> Option<RelationModelId> {
    model_at(fields, from, "authorization_model_id")
}

/// The model that a field of this name names.
pub(super) fn model_at(fields: &mut Fields<'_>, from: &mut Reader<'_>, name: &'static str) -> Option<RelationModelId> {
    let at = fields.at(name);
    let text = text(fields, from, name)?;
    let id = text.parse().ok();
    if id.is_none() {
        from.fault(at, "is a model's id, 26 characters");
    }
    id
}

/// A preference that changes nothing here: every answer is of the newest state.
pub(super) fn consistency(fields: &mut Fields<'_>, from: &mut Reader<'_>) {
    const KNOWN: [&str; 3] = ["UNSPECIFIED", "MINIMIZE_LATENCY", "HIGHER_CONSISTENCY"];
    let at = fields.at("consistency");
    if let Some(word) = text(fields, from, "consistency")
        && !KNOWN.contains(&word.as_str())
    {
        from.fault(at, "is one of UNSPECIFIED, MINIMIZE_LATENCY, HIGHER_CONSISTENCY");
    }
}

/// True or false.
pub(super) struct Flag(pub(super) bool);

impl FromJson for Flag {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let flag = value.as_bool();
        if flag.is_none() {
            from.fault(at, "is true or false");
        }
        flag.map(Self)
    }
}

/// Any JSON object.
pub(super) struct Anything(pub(super) Context);

impl FromJson for Anything {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let object = value.as_object().cloned();
        if object.is_none() {
            from.fault(at, "is an object");
        }
        object.map(Self)
    }
}

/// A list that is not longer than any operation takes.
pub(super) struct Items<T>(pub(super) Vec<T>);

impl<T: FromJson> FromJson for Items<T> {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        if value.as_array().is_some_and(|items| items.len() > MOST_ITEMS) {
            from.fault(at, format!("has at most {MOST_ITEMS} items"));
            return None;
        }
        Vec::from_json(value, at, from).map(Self)
    }
}

struct Condition(BoundCondition);

impl FromJson for Condition {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let name = word(&mut fields, from, "name");
        let context = fields.optional::<Anything>(from, "context");
        fields.finish(from);
        Some(Self(BoundCondition {
            name: name?,
            context: context.map(|Anything(context)| context).unwrap_or_default(),
        }))
    }
}

/// A tuple, perhaps under a condition.
pub(super) struct Tuple(pub(super) Relationship);

impl FromJson for Tuple {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let user = word(&mut fields, from, "user");
        let relation = word(&mut fields, from, "relation");
        let object = word(&mut fields, from, "object");
        let condition = fields.optional::<Condition>(from, "condition");
        fields.finish(from);
        let condition = condition.map(|Condition(bound)| bound);
        Some(Self(Relationship { object: object?, relation: relation?, user: user?, condition }))
    }
}

/// An object, a relation and a user, without a condition.
pub(super) struct CheckKey(pub(super) Relationship);

impl FromJson for CheckKey {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let user = word(&mut fields, from, "user");
        let relation = word(&mut fields, from, "relation");
        let object = word(&mut fields, from, "object");
        fields.finish(from);
        Some(Self(Relationship::new(object?, relation?, user?)))
    }
}

/// Tuples, without the object around them.
pub(super) fn tuples(Items(tuples): Items<Tuple>) -> Vec<Relationship> {
    tuples.into_iter().map(|Tuple(tuple)| tuple).collect()
}

/// `{ "tuple_keys": […] }`
pub(super) struct Contextual(pub(super) Vec<Relationship>);

impl FromJson for Contextual {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let keys = fields.optional::<Items<Tuple>>(from, "tuple_keys");
        fields.finish(from);
        Some(Self(keys.map(tuples).unwrap_or_default()))
    }
}

/// What a question brings along.
#[derive(Default)]
pub(super) struct Along {
    pub(super) contextual: Vec<Relationship>,
    pub(super) context: Option<Context>,
}

impl Along {
    pub(super) fn read(fields: &mut Fields<'_>, from: &mut Reader<'_>) -> Self {
        let contextual = fields.optional::<Contextual>(from, "contextual_tuples");
        let context = fields.optional::<Anything>(from, "context");
        Self {
            contextual: contextual.map(|Contextual(tuples)| tuples).unwrap_or_default(),
            context: context.map(|Anything(context)| context),
        }
    }
}

/// How many there are on a page: 1 to 100, 50 if not said.
pub(super) const MOST_OF_A_PAGE: usize = 100;
pub(super) const PAGE: usize = 50;

/// The size of a page and the token from the query.
pub(super) fn page(from: &mut Reader<'_>) -> Option<(usize, Option<String>)> {
    let size = match from.query("page_size").map(str::parse) {
        None => PAGE,
        Some(Ok(size)) if (1..=MOST_OF_A_PAGE).contains(&size) => size,
        Some(_) => {
            from.fault("?page_size", "is a whole number from 1 to 100");
            return None;
        }
    };
    let token = from.query("continuation_token").map(str::to_owned).filter(|token| !token.is_empty());
    is_bounded(token.as_ref(), "?continuation_token", from).then_some((size, token))
}

/// Whether a token is not longer than any of ours; if it is, that is a fault.
pub(super) fn is_bounded(token: Option<&String>, at: &str, from: &mut Reader<'_>) -> bool {
    let is_bounded = token.is_none_or(|token| token.len() <= service::fga::MOST_TOKEN_BYTES);
    if !is_bounded {
        from.fault(at, format!("has at most {} bytes", service::fga::MOST_TOKEN_BYTES));
    }
    is_bounded
}
