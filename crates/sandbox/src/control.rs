//! The way in for other processes: what the platform has seen, and its switches, over HTTP.
//!
//! Answers only where the platform is called `localhost` (the stage sees to it), so that none of the names that a provider
//! declares leads here. Tells no credential.

use std::collections::BTreeMap;

use axum::{Json, extract::State, extract::rejection::JsonRejection, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api,
    platform::Platform,
    quirk::{Quirk, Scope},
};

const POSTS_TOLD: usize = 1000;

/// `GET /sandbox/state`: accounts, the newest 1,000 posts (oldest first), and the counts.
pub(crate) async fn state(State(platform): State<Platform>) -> Response {
    let interior = platform.interior();
    let accounts: Vec<Value> = interior
        .registry
        .accounts()
        .iter()
        .map(|it| {
            let written = interior.posts.written_by(&it.id);
            json!({"id": it.id, "handle": it.handle, "name": it.name, "posts_written": written})
        })
        .collect();
    let mut posts: Vec<Value> = interior
        .posts
        .all()
        .rev()
        .take(POSTS_TOLD)
        .map(|it| json!({"id": it.id, "author": it.author, "text": it.text, "reply_to": it.reply_to}))
        .collect();
    posts.reverse();
    let mut calls: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for ((call, outcome), count) in interior.journal.counts() {
        calls.entry(word(call)).or_default().insert(word(outcome), *count);
    }
    let answer = json!({
        "accounts": accounts,
        "posts": posts,
        "calls": calls,
        "replays_punished": interior.grants.replays_punished,
        "code_reuses_punished": interior.grants.code_reuses_punished,
        "revocations": interior.grants.revocations,
        "armed": interior.board.armed().collect::<Vec<_>>(),
        "fired": interior.board.fired_by_name(),
    });
    api::json(StatusCode::OK, &answer)
}

fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// What `POST /sandbox/switch` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    quirk: Quirk,
    scope: Scope,
}

/// `POST /sandbox/switch`: `{"quirk": {"kind": "lose_answer"}, "scope": {"route": "token", "times": "once"}}`.
pub(crate) async fn switch(State(platform): State<Platform>, switch: Result<Json<Switch>, JsonRejection>) -> Response {
    let switch = match switch {
        Ok(Json(switch)) => switch,
        Err(rejection) => return api::problem(rejection.status(), &rejection.body_text()),
    };
    match platform.switch(switch.quirk, switch.scope) {
        Ok(()) => api::json(StatusCode::OK, &json!({"armed": platform.armed().len()})),
        Err(error) => api::problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

/// `POST /sandbox/clear`: takes back all switches and lets go of what is held.
pub(crate) async fn clear(State(platform): State<Platform>) -> Response {
    platform.clear();
    api::json(StatusCode::OK, &json!({"armed": 0}))
}
