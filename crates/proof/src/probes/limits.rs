//! Limits: bursts and daily quotas hold, and whoever is over one is told so in the standard fields.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    answered::of_server,
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Limits},
    owner::{Agent, expect, text},
    probe::{Attack, Probe, Target},
    serving,
    undoing::Undoing,
};

/// Whether more comes through than a burst or a day holds.
pub(super) const BURST_AND_QUOTA: Probe = Probe {
    name: "burst-and-quota",
    points: &["burst-and-quota", "daily-quotas"],
    tries: "more requests than a burst lets through, and more acts than a day's quota",
    attack: Attack::Rehearsed(|ground| Box::pin(burst_and_quota(ground))),
};

/// Whether a refusal for a limit lacks the fields by which a client learns of it.
pub(super) const LIMIT_HEADERS: Probe = Probe {
    name: "limit-headers",
    points: &["limit-headers"],
    tries: "an answer, or a refusal for a limit, without the standard fields, or with fields that do not agree",
    attack: Attack::Both {
        live: |target| Box::pin(headers_beside_customers(target)),
        rehearsed: |ground| Box::pin(limit_headers(ground)),
    },
};

/// What a principal may ask in a burst.
const BURST: u32 = 12;
/// What a connection may do in a day.
const QUOTA: u64 = 3;
/// How many connect links a key of the probe's own asks for beside customers: more than a key may by default.
const LINKS_TRIED: u32 = 130;
/// The fields, as drafts before and since 08 of draft-ietf-httpapi-ratelimit-headers have them.
const FIELDS: [&str; 5] =
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit", "ratelimit-policy"];

fn few() -> Limits {
    Limits { network: u32::MAX, principal: BURST, failures: 4, links: 4 }
}

async fn burst_and_quota(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let agent = agent(ground, "bursts").await?;
    let node = ground.start_node(Some(few())).await?;
    let caller = ground.stranger_at(&node.url).with_key(agent.caller.key().unwrap_or_default());
    let (mut passed, mut refused) = (0_u32, 0_u32);
    for _ in 0..3 * BURST {
        let reply = caller.get("/v1/providers").await?;
        match reply.status {
            StatusCode::OK => passed += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                refused += 1;
                evidence.tried(
                    "bursts",
                    format!("one more than {BURST} at once: 429"),
                    "GET /v1/providers",
                    &reply.body,
                );
            }
            other => return Err(Failure::unproven(format!("a request within its limits was answered {other}"))),
        }
    }
    // The limit's own seconds let some more through while the burst lasts.
    if refused == 0 || passed > 2 * BURST {
        return Err(Failure::broken(
            format!("{passed} of {} requests came through at once, and {BURST} are a burst", 3 * BURST),
            json!({ "came_through": passed, "refused": refused }),
        ));
    }
    if passed < BURST {
        return Err(Failure::unproven(format!("only {passed} requests came through, and {BURST} are allowed")));
    }
    evidence.saw(format!("a burst of {BURST} comes through"), "GET /v1/providers", passed.to_string());
    node.end().await;
    quota(ground, &agent, &mut evidence).await?;
    Ok(evidence)
}

/// A day's quota is used up, and then nothing more is done, whatever is tried.
async fn quota(ground: &Ground, agent: &Agent, evidence: &mut Evidence) -> Result<(), Failure> {
    for number in 1..=QUOTA + 5 {
        let key = format!("quota-{number}");
        let reply = agent
            .caller
            .act(&agent.mandate, "post.create", &json!({ "text": format!("post {number}") }), Some(&key))
            .await?;
        if number <= QUOTA {
            expect(&reply, 200)?;
            evidence.saw(format!("post {number} of {QUOTA} a day"), key, reply.status.as_str());
        } else if reply.status == StatusCode::TOO_MANY_REQUESTS {
            evidence.tried("daily-quotas", format!("post {number} of {QUOTA} a day: 429"), key, &reply.body);
        } else {
            let obtained = json!({ "act": reply.json().get("act"), "status": reply.status.as_u16() });
            return Err(Failure::broken(format!("post {number} was made, and {QUOTA} a day are allowed"), obtained));
        }
    }
    let written = ground.platform().posts_written_by("bursts");
    if written > QUOTA {
        return Err(Failure::broken("the platform has more posts than a day holds", json!({ "posts": written })));
    }
    evidence.tried("daily-quotas", format!("the platform has {written} posts"), "", written.to_string());
    Ok(())
}

/// An agent that may post three times a day, of an account of its own.
async fn agent(ground: &Ground, account: &str) -> Result<Agent, Failure> {
    let admin = &ground.target().await?.admin;
    let actions = ["profile.read", "post.create"];
    let connected = ground.connect(admin, account, &actions).await?;
    let limits = json!([{ "unit": "posts", "per": "day", "cap": QUOTA }]);
    ground.agent(admin, &connected.connection, &actions, &limits).await
}

/// Beside customers one limit is reached, and it binds a key of the probe's own alone: that of the connect links that it asks for, of which
/// the last is refused and none comes about. Where that limit is too wide to be reached, the answers within limits are all that is judged.
async fn headers_beside_customers(target: &Target) -> Outcome {
    let keys = Undoing::of(&target.admin);
    keys.after(async {
        let mut evidence = Evidence::new();
        within(target, &mut evidence).await?;
        let (caller, _) = keys.key("user").await?;
        for _ in 0..LINKS_TRIED {
            let reply = ask_for_a_link(&caller).await?;
            if reply.status == StatusCode::TOO_MANY_REQUESTS {
                refused(&mut evidence, "a key's connect links", &reply)?;
                return Ok(evidence);
            }
            expect(&reply, 422)?;
        }
        evidence.saw(format!("{LINKS_TRIED} connect links at once are within their limit here"), "", "");
        Ok(evidence)
    })
    .await
}

/// An answer within its limits tells what is left of them, whatever it is, and whoever asks.
async fn within(target: &Target, evidence: &mut Evidence) -> Result<(), Failure> {
    let Target { admin, stranger, .. } = target;
    for (what, caller, path, status) in [
        ("an answer to a key", admin, "/v1/providers", 200),
        (
            "an answer to a key that there is no such thing",
            admin,
            "/v1/connections/con_00000000000000000000000000",
            404,
        ),
        ("an answer to nobody that a key is needed", stranger, "/v1/workspace", 401),
    ] {
        let reply = caller.get(path).await?;
        of_server(what, &reply)?;
        expect(&reply, status)?;
        agree(&reply, what, None)?;
        evidence.tried("limit-headers", format!("{what} tells what is left: {}", fields(&reply)), path, fields(&reply));
    }
    Ok(())
}

async fn limit_headers(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let agent = agent(ground, "limits").await?;
    let node = ground.start_node(Some(few())).await?;
    let stranger = ground.stranger_at(&node.url);
    let caller = stranger.with_key(agent.caller.key().unwrap_or_default());
    over(&mut evidence, "a principal's burst", &caller, "/v1/providers").await?;
    over(&mut evidence, "wrong credentials", &stranger.with_key("kh_local_not-a-key"), "/v1/workspace").await?;
    links(ground, &mut evidence, &stranger).await?;
    for number in 1..=QUOTA + 1 {
        let (text, key) = (json!({ "text": format!("post {number}") }), format!("limits-{number}"));
        let reply = agent.caller.act(&agent.mandate, "post.create", &text, Some(&key)).await?;
        if number > QUOTA {
            refused(&mut evidence, "a day's quota", &reply)?;
        } else {
            expect(&reply, 200)?;
        }
    }
    node.end().await;
    Ok(evidence)
}

/// Asks until there is a refusal for a limit, and judges it.
async fn over(evidence: &mut Evidence, what: &str, caller: &Caller, path: &str) -> Result<(), Failure> {
    for _ in 0..3 * BURST {
        let reply = caller.get(path).await?;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            return refused(evidence, what, &reply);
        }
    }
    Err(Failure::unproven(format!("{what}: nobody was refused")))
}

async fn links(ground: &Ground, evidence: &mut Evidence, stranger: &Caller) -> Result<(), Failure> {
    let admin = serving::admin(ground, stranger).await?;
    for _ in 0..8 {
        let reply = ask_for_a_link(&admin).await?;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            return refused(evidence, "connect links", &reply);
        }
    }
    Err(Failure::unproven("connect links: nobody was refused"))
}

/// Asks for a link to a provider that is none: counted, and no link is left behind.
async fn ask_for_a_link(caller: &Caller) -> Result<Reply, Failure> {
    let odd = json!({ "provider": "no-such-provider", "actions": ["x"], "return_url": "https://app.example.com/" });
    Ok(caller.post("/v1/connect-links", &odd).await?)
}

/// A refusal for a limit has every field, and they agree.
fn refused(evidence: &mut Evidence, what: &str, reply: &Reply) -> Result<(), Failure> {
    of_server(what, reply)?;
    let body = reply.json();
    if reply.status != StatusCode::TOO_MANY_REQUESTS {
        return Err(Failure::unproven(format!("{what}: {} instead of 429", reply.status)));
    }
    let kind = text(&body, "/type").rsplit(':').next().unwrap_or_default();
    if !["rate-limited", "budget-exceeded"].contains(&kind) {
        return Err(Failure::broken(format!("{what}: a 429 of no known type"), body.clone()));
    }
    let retry = reply.header("retry-after").parse::<u64>().ok();
    if retry.is_none_or(|seconds| seconds == 0) || body.get("retry_after").and_then(Value::as_u64) != retry {
        let obtained = json!({ "retry-after": reply.header("retry-after"), "body": body.get("retry_after") });
        return Err(Failure::broken(format!("{what}: a 429 does not say when to come again"), obtained));
    }
    agree(reply, what, Some(0))?;
    evidence.tried("rate-limits", format!("{what}: 429"), what, &reply.body);
    evidence.tried("limit-headers", format!("{what}: {}", fields(reply)), what, fields(reply));
    Ok(())
}

fn fields(reply: &Reply) -> String {
    FIELDS.map(|name| format!("{name}: {}", reply.header(name))).join(", ")
}

/// Every field is there, and the newer ones say what the older ones say.
fn agree(reply: &Reply, what: &str, remaining: Option<u64>) -> Result<(), Failure> {
    let broken = |why: &str| {
        Err(Failure::broken(
            format!("{what}: {why}"),
            json!({ "status": reply.status.as_u16(), "fields": fields(reply) }),
        ))
    };
    if let Some(missing) = FIELDS.into_iter().find(|name| reply.header(name).is_empty()) {
        return broken(&format!("the field {missing} is missing"));
    }
    let number = |name: &str| reply.header(name).parse::<u64>().ok();
    let (Some(limit), Some(left), Some(reset)) = (number(FIELDS[0]), number(FIELDS[1]), number(FIELDS[2])) else {
        return broken("an older field is no number");
    };
    let (newer, policy) = (reply.header("ratelimit"), reply.header("ratelimit-policy"));
    let same = parameter(newer, "r") == Some(left)
        && parameter(newer, "t") == Some(reset)
        && parameter(policy, "q") == Some(limit);
    let named = newer.split(';').next() == policy.split(';').next() && newer.starts_with('"');
    if !same || !named || parameter(policy, "w").is_none_or(|window| window == 0) {
        return broken("the fields do not agree");
    }
    if remaining.is_some_and(|remaining| left != remaining) || left > limit {
        return broken("what is left is not what is told");
    }
    Ok(())
}

/// A parameter's number of a structured field (RFC 9651 §3.1.2).
fn parameter(field: &str, name: &str) -> Option<u64> {
    field.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        let field = "\"requests\";q=12;w=60;qu=\"requests\"";
        assert_eq!((parameter(field, "q"), parameter(field, "w"), parameter(field, "r")), (Some(12), Some(60), None));
    }
}
