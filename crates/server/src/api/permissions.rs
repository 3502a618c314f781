//! Permissions: why somebody may do something, or what he lacks for it.

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use service::{
    App,
    action::ExplainPermission,
    permission::{self, By, Explained, Explanation, Hindrance, Question, Relationship, Step},
};
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{FromJson, Reader, members::members},
    problem::Problem,
};

/// The longest of a question's texts, in bytes.
const LONGEST: usize = 512;

members! {
    /// A question about a permission.
    pub(crate) struct QuestionBody as PermissionQuestion {
        /// Who would do it: an API key's id, or `account:…`, `app:…`; the caller where it is not given. About others asks who looks after the
        /// workspace.
        #[schema(value_type = Option<String>)]
        user: Option<Text>,
        /// A permission's name (`connection.read`), or a relation of the model (`can_use`).
        #[schema(value_type = String)]
        permission: Text,
        /// The object: its id (`con_…`), or type and name (`feature:content-sync`); the workspace where it is not given.
        #[schema(value_type = Option<String>)]
        object: Option<Text>,
    }
}

/// A text of a question.
struct Text(String);

impl FromJson for Text {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let text = String::from_json(value, at, from)?;
        if text.is_empty() || text.len() > LONGEST {
            from.fault(at, format!("has 1 to {LONGEST} bytes"));
        }
        Some(Self(text))
    }
}

/// Why somebody may do something, or what he lacks for it.
#[derive(Serialize, ToSchema)]
#[schema(as = PermissionExplanation)]
pub(crate) struct ExplanationView {
    /// Whether he may; null where a bound or a condition withholds the answer.
    allowed: Option<bool>,
    /// Who, as tuples write it.
    user: String,
    /// The relation that is needed; null where only Keyholder itself may do this.
    relation: Option<String>,
    /// The object, as tuples write it.
    object: String,
    /// Of a yes: the rules that were met, and by which tuples.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    path: Option<StepView>,
    /// Of a no: sets of tuples, any one of which would make it a yes. Small ones first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    needed: Option<Vec<Vec<TupleView>>>,
    /// What is there and does not help, because something else stands in its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    hindrances: Option<Vec<HindranceView>>,
    /// Of a no: whether everything within the bounds was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    complete: Option<bool>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    withheld: Option<String>,
    /// The revision of the workspace by whose facts it was answered.
    revision: i64,
}

/// A relationship tuple.
#[derive(Serialize, ToSchema)]
#[schema(as = PermissionTuple)]
pub(crate) struct TupleView {
    /// `type:id`
    object: String,
    /// The relation.
    relation: String,
    /// `type:id`, `type:*` or `type:id#relation`.
    user: String,
    /// The condition under which it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    condition: Option<String>,
}

/// A rule that was met.
#[derive(Serialize, ToSchema)]
#[schema(as = PermissionStep, no_recursion)]
pub(crate) struct StepView {
    /// `type:id`
    object: String,
    /// The relation of the object.
    relation: String,
    /// Its definition, or the part of it that was met.
    rule: String,
    /// The tuple that names the user, or that leads to the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    tuple: Option<TupleView>,
    /// Where he stands, so that he stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, no_recursion)]
    next: Option<Box<StepView>>,
    /// All of which he must stand in, and does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, no_recursion)]
    all: Option<Vec<StepView>>,
    /// What he must not stand in, and does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    without: Option<String>,
}

/// Something that stands in the way of what is there.
#[derive(Serialize, ToSchema)]
#[schema(as = PermissionHindrance)]
pub(crate) struct HindranceView {
    /// `excluded` (he is taken out of a relation) or `condition` (a tuple's condition is not met).
    kind: &'static str,
    /// The object out of whose relation he is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    object: Option<String>,
    /// That relation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    relation: Option<String>,
    /// How he stands in what is taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    path: Option<StepView>,
    /// The tuple whose condition is not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    tuple: Option<TupleView>,
    /// Why the condition gave no answer; null where its answer was no.
    reason: Option<String>,
}

impl From<&Relationship> for TupleView {
    fn from(tuple: &Relationship) -> Self {
        Self {
            object: tuple.object.clone(),
            relation: tuple.relation.clone(),
            user: tuple.user.clone(),
            condition: tuple.condition.as_ref().map(|bound| bound.name.clone()),
        }
    }
}

impl From<&Step> for StepView {
    /// Calls itself as deep as the way is, which the search bounds.
    fn from(step: &Step) -> Self {
        let mut view = Self {
            object: step.object.clone(),
            relation: step.relation.clone(),
            rule: step.rule.clone(),
            tuple: None,
            next: None,
            all: None,
            without: None,
        };
        match &step.by {
            By::Itself => {}
            By::Tuple(tuple) => view.tuple = Some(tuple.into()),
            By::Next { tuple, step } => {
                view.tuple = tuple.as_ref().map(TupleView::from);
                view.next = Some(Box::new(step.as_ref().into()));
            }
            By::All(steps) => view.all = Some(steps.iter().map(Self::from).collect()),
            By::Without { step, excluded } => {
                view.next = Some(Box::new(step.as_ref().into()));
                view.without = Some(excluded.clone());
            }
        }
        view
    }
}

impl From<&Hindrance> for HindranceView {
    fn from(hindrance: &Hindrance) -> Self {
        let bare = Self { kind: "condition", object: None, relation: None, path: None, tuple: None, reason: None };
        match hindrance {
            Hindrance::Excluded { object, relation, by } => Self {
                kind: "excluded",
                object: Some(object.clone()),
                relation: Some(relation.clone()),
                path: Some(by.into()),
                ..bare
            },
            Hindrance::Condition { tuple, error } => {
                Self { tuple: Some(tuple.into()), reason: error.as_ref().map(ToString::to_string), ..bare }
            }
        }
    }
}

fn view(explained: &Explained) -> ExplanationView {
    let hindrances = |all: &[Hindrance]| Some(all.iter().map(HindranceView::from).collect());
    let bare = ExplanationView {
        allowed: explained.explanation.answer(),
        user: explained.user.clone(),
        relation: explained.relation.clone(),
        object: explained.object.clone(),
        path: None,
        needed: None,
        hindrances: None,
        complete: None,
        withheld: None,
        revision: explained.revision,
    };
    match &explained.explanation {
        Explanation::Stands(step) => ExplanationView { path: Some(step.into()), ..bare },
        Explanation::Lacks(lack) => {
            let sets = lack.needed.iter().map(|set| set.iter().map(TupleView::from).collect());
            ExplanationView {
                needed: Some(sets.collect()),
                hindrances: hindrances(&lack.hindrances),
                complete: Some(lack.is_complete),
                ..bare
            }
        }
        Explanation::Withheld { error, hindrances: found } => {
            ExplanationView { withheld: Some(error.to_string()), hindrances: hindrances(found), ..bare }
        }
    }
}

pub(crate) async fn explain(
    app: Arc<App>,
    caller: Caller<ExplainPermission>,
    QuestionBody { user, permission: Text(permission), object }: QuestionBody,
) -> Result<Response, Problem> {
    let text = |Text(text): Text| text;
    let question = Question { user: user.map(text), permission, object: object.map(text) };
    let workspace = caller.principal().workspace().ok_or(service::Refusal::NotFound)?;
    let explained = permission::explain(&app, caller.principal(), workspace, &question).await?;
    answer::ok(&view(&explained))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use service::permission::{Lack, QueryError};

    use super::*;

    fn tuple() -> Relationship {
        Relationship::new("mandate:m", "grantee", "api_key:k").under("by_day", serde_json::Map::new())
    }

    fn step(by: By) -> Step {
        Step { object: "mandate:m".to_owned(), relation: "can_act".to_owned(), rule: "grantee".to_owned(), by }
    }

    /// What the command line prints of an explanation is what the API answers.
    #[test]
    fn an_answer_is_the_explanation_and_who_what_and_when() {
        let deep = By::Without {
            step: Box::new(step(By::Next { tuple: Some(tuple()), step: Box::new(step(By::Tuple(tuple()))) })),
            excluded: "blocked".to_owned(),
        };
        let hindrances = vec![
            Hindrance::Excluded { object: "a:b".to_owned(), relation: "c".to_owned(), by: step(By::Itself) },
            Hindrance::Condition { tuple: tuple(), error: None },
        ];
        for explanation in [
            Explanation::Stands(step(By::All(vec![step(deep), step(By::Itself)]))),
            Explanation::Lacks(Lack { needed: vec![vec![tuple()]], hindrances: hindrances.clone(), is_complete: true }),
            Explanation::Withheld { error: QueryError::TooComplex, hindrances },
        ] {
            let mut expected = explanation.to_json();
            let more = json!({ "user": "api_key:k", "relation": "can_act", "object": "mandate:m", "revision": 7 });
            expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (user, object) = ("api_key:k".to_owned(), "mandate:m".to_owned());
            let explained = Explained { user, relation: Some("can_act".to_owned()), object, explanation, revision: 7 };
            let mut said: Value = serde_json::to_value(view(&explained)).unwrap();
            // A reason that is not there is null in both, or left out of one.
            for hindrance in said.get_mut("hindrances").and_then(Value::as_array_mut).into_iter().flatten() {
                if hindrance["kind"] == "excluded" {
                    hindrance.as_object_mut().unwrap().remove("reason");
                }
            }
            assert_eq!(said, expected);
        }
    }
}
