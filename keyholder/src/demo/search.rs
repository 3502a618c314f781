//! A search: every token that the platform ever issued, in everything that was answered, logged or stored.

use std::sync::PoisonError;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::json;

use super::stage::{Fault, OURS, Outcome, Stage, check, expect};
use crate::home::INSTALLATION;

/// Where a needle was found.
struct Found {
    responses: usize,
    lines: usize,
    rows: usize,
}

pub(super) async fn look(stage: &mut Stage) -> Outcome {
    let canary = format!("canary-{}", hex::encode(domain::random::bytes::<12>()));
    plant(stage, &canary).await?;

    let planted = find(stage, &canary).await?;
    let everywhere = planted.responses > 0 && planted.lines > 0 && planted.rows > 0;
    check(everywhere, || "the canary was not found where it was planted: the search is blind".to_owned())?;
    let mut needles = 0;
    for account in [OURS, "rival_brand"] {
        for token in stage.local.sandbox().platform().tokens(account) {
            for form in forms(&token.text) {
                let found = find(stage, &form).await?;
                let places = [("a response", found.responses), ("a log line", found.lines), ("a table", found.rows)];
                for (place, hits) in places {
                    check(hits == 0, || format!("a token of @{account} is in {place}"))?;
                }
            }
            needles += 1;
        }
    }
    check(needles >= 4, || format!("only {needles} tokens were looked for"))?;
    check(stage.lines.lost() == 0, || "the log was longer than what was searched".to_owned())?;
    let responses = stage.witness.lock().unwrap_or_else(PoisonError::into_inner).len();
    Ok(format!(
        "{needles} tokens in 4 forms each, not in {responses} responses and headers, the log or the tables; the canary in all three"
    ))
}

/// A token as it is, and as a careless program would have written it: base64 in both alphabets, and PostgreSQL's hexadecimal bytes.
fn forms(token: &str) -> [String; 4] {
    [token.to_owned(), STANDARD_NO_PAD.encode(token), URL_SAFE_NO_PAD.encode(token), hex::encode(token)]
}

/// Puts the canary where a leak would be: into a row that is then answered, and into the log.
async fn plant(stage: &Stage, canary: &str) -> Result<(), Fault> {
    let planted = stage.backend()?.post("/v1/api-keys", &json!({ "label": canary, "role": "service" })).await?;
    expect(&planted, 201)?;
    expect(&stage.backend()?.get("/v1/api-keys").await?, 200)?;
    tracing::info!(canary, "planted, so that the search can be seen to find something");
    Ok(())
}

async fn find(stage: &Stage, needle: &str) -> Result<Found, Fault> {
    let bytes = needle.as_bytes();
    let within = |text: &[u8]| memchr::memmem::find(text, bytes).is_some();
    let responses = {
        let seen = stage.witness.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|text| within(text)).count()
    };
    let lines = stage.lines.lines().iter().filter(|line| within(line.as_bytes())).count();
    let owner = stage.local.home().owner(INSTALLATION).map_err(|error| Fault(error.to_string()))?;
    let rows = store::owner::every_row(&owner).await.map_err(|error| Fault(error.to_string()))?;
    let rows = rows.iter().filter(|(_, row)| within(row.as_bytes())).count();
    Ok(Found { responses, lines, rows })
}
