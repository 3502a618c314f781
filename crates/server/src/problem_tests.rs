use domain::budget::{Limit, Unit};
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-03-05 12:00:00.5 UTC);

fn rendered(problem: &Problem) -> Value {
    serde_json::from_str(&problem.render(RequestId::new(&Clock::set(NOW)), NOW)).unwrap()
}

fn over() -> Over {
    let limit = Limit { unit: Unit::Posts, per: Period::Day, cap: 3 };
    Over { scope: "mandate", limit, remaining: 0, wanted: 1, resets_at: datetime!(2026-03-06 0:00 UTC) }
}

#[test]
fn each_refusal_has_its_kind() {
    let act = ActId::new(&Clock::set(NOW));
    let cases: Vec<(Problem, Kind)> = vec![
        (Refusal::Unauthenticated.into(), Kind::Unauthenticated),
        (Refusal::RateLimited { retry_after_s: 2, limit: 60 }.into(), Kind::RateLimited),
        (Refusal::NotFound.into(), Kind::NotFound),
        (Refusal::Forbidden.into(), Kind::Forbidden),
        (Refusal::invalid("/a", "is wrong").into(), Kind::InvalidInput),
        (Refusal::Unsupported("a guard policy").into(), Kind::Unsupported),
        (Refusal::Conflict("it is so").into(), Kind::Conflict),
        (Refusal::Stale.into(), Kind::Stale),
        (Refusal::Unavailable(None).into(), Kind::Unavailable),
        (Refusal::Internal("x", None).into(), Kind::Internal),
        (ActError::OutsideMandate("no".to_owned()).into(), Kind::OutsideMandate),
        (ActError::NotAnAction(RecogniseError::NoSuchAction).into(), Kind::OutsideMandate),
        (ActError::NotAnAction(RecogniseError::UnexpectedBody).into(), Kind::InvalidInput),
        (ActError::NotAnAction(RecogniseError::InvalidJson(JsonFault::TooDeep { limit: 1 })).into(), Kind::InvalidJson),
        (ActError::KeyRequired.into(), Kind::IdempotencyKeyRequired),
        (ActError::KeyReused.into(), Kind::IdempotencyKeyReused),
        (ActError::InProgress(act).into(), Kind::ActInProgress),
        (ActError::Ambiguous(act).into(), Kind::ActAmbiguous),
        (ActError::NotKept(act).into(), Kind::Conflict),
        (ActError::Over(Box::new(over())).into(), Kind::BudgetExceeded),
        (ActError::ReconnectRequired.into(), Kind::ReconnectRequired),
        (
            ActError::Upstream { fault: UpstreamFault::Unreachable, stage: None, act: None }.into(),
            Kind::UpstreamUnreachable,
        ),
        (
            ActError::Upstream { fault: UpstreamFault::Timeout, stage: Some("connecting"), act: Some(act) }.into(),
            Kind::UpstreamTimeout,
        ),
        (ActError::Upstream { fault: UpstreamFault::Invalid, stage: None, act: None }.into(), Kind::UpstreamInvalid),
        (ActError::ProviderUnavailable { retry_after_s: 7 }.into(), Kind::ProviderUnavailable),
        (ActError::ProviderRateLimited { retry_after_s: 7 }.into(), Kind::ProviderRateLimited),
        (ConnectError::LinkGone.into(), Kind::Forbidden),
        (ConnectError::Upstream(UpstreamFault::Timeout).into(), Kind::UpstreamTimeout),
        (JsonFault::TooLong { limit: 1 }.into(), Kind::BodyTooLarge),
        (JsonFault::Syntax { line: 1, column: 1 }.into(), Kind::InvalidJson),
    ];
    for (problem, kind) in cases {
        assert_eq!(problem.kind(), kind, "{problem:?}");
        assert_eq!(rendered(&problem)["type"], kind.urn());
        assert_eq!(rendered(&problem)["status"], kind.status());
    }
}

#[test]
fn causes_are_logged_and_never_answered() {
    let canary = "canary-7f3a /srv/secret select * from";
    let inside = Refusal::internal("the database", std::io::Error::other(canary));
    let problem = Problem::from(inside);
    assert!(chain(problem.0.cause.as_deref().unwrap()).contains(canary));
    let answer = rendered(&problem).to_string();
    assert!(!answer.contains("canary") && !answer.contains("database"), "{answer}");
}

#[test]
fn a_budget_says_all_that_a_caller_needs() {
    let problem = Problem::from(ActError::Over(Box::new(over())));
    let body = rendered(&problem);
    assert_eq!(
        body["budget"],
        json!({ "scope": "mandate", "unit": "posts", "per": "day", "cap": 3, "remaining": 0, "wanted": 1,
            "resets_at": "2026-03-06T00:00:00Z" })
    );
    assert_eq!(body["retry_after"], 43_200, "half a second is rounded up, so that a retry is not early");
    let headers = problem.headers(NOW);
    let expected = [
        ("retry-after", "43200"),
        ("ratelimit-limit", "3"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "43200"),
        ("ratelimit-policy", "\"mandate-posts-day\";q=3;w=86400;qu=\"posts\""),
        ("ratelimit", "\"mandate-posts-day\";r=0;t=43200"),
    ];
    for (name, value) in expected {
        assert_eq!(headers.get(name).unwrap(), value, "{name}");
    }
}

#[test]
fn a_rate_limit_says_when_to_come_back() {
    let headers = Problem::from(Refusal::RateLimited { retry_after_s: 7, limit: 60 }).headers(NOW);
    assert_eq!(headers.get("retry-after").unwrap(), "7");
    assert_eq!(headers.get("ratelimit-policy").unwrap(), "\"requests\";q=60;w=60;qu=\"requests\"");
    assert_eq!(headers.get("ratelimit").unwrap(), "\"requests\";r=0;t=7");
}

#[test]
fn a_provider_that_is_left_alone_says_for_how_long() {
    for error in
        [ActError::ProviderUnavailable { retry_after_s: 7 }, ActError::ProviderRateLimited { retry_after_s: 7 }]
    {
        let problem = Problem::from(error);
        assert_eq!(problem.headers(NOW).get("retry-after").unwrap(), "7");
        assert_eq!(rendered(&problem)["retry_after"], 7);
    }
}

#[test]
fn a_failed_call_says_at_what_it_failed() {
    let stage = Some("connecting");
    let problem = Problem::from(ActError::Upstream { fault: UpstreamFault::Unreachable, stage, act: None });
    assert_eq!(rendered(&problem)["detail"], "nothing was sent; the call failed at connecting");
}

#[test]
fn a_month_is_as_long_as_it_is() {
    assert_eq!(window_s(Period::Month, datetime!(2026-03-01 0:00 UTC)), 28 * 86_400);
    assert_eq!(window_s(Period::Month, datetime!(2027-01-01 0:00 UTC)), 31 * 86_400);
}

#[test]
fn who_shows_no_credential_is_told_which_one_is_wanted() {
    let headers = Problem::from(Refusal::Unauthenticated).headers(NOW);
    assert_eq!(headers.get("www-authenticate").unwrap(), "Bearer");
}

#[test]
fn an_ambiguous_act_is_named() {
    let act = ActId::new(&Clock::set(NOW));
    for error in [
        ActError::Ambiguous(act),
        ActError::InProgress(act),
        ActError::Upstream { fault: UpstreamFault::Timeout, stage: Some("connecting"), act: Some(act) },
    ] {
        assert_eq!(rendered(&error.into())["act"], act.to_string());
    }
}

#[test]
fn faults_are_told_up_to_a_number() {
    let faults = (0..1000).map(|n| Fault::at(format!("/{n}"), "is wrong")).collect();
    assert_eq!(rendered(&Problem::invalid(faults))["errors"].as_array().unwrap().len(), MOST_FAULTS);
}
