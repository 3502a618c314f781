//! Shredding: what is left of a workspace that was deleted, in any row of any table.

use domain::{
    id::{ConnectionId, Id, WorkspaceId},
    random,
};
use serde_json::json;

use crate::{
    database::Session,
    dump,
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    search::Needle,
};

/// Whether anything of a deleted workspace can still be had.
pub(super) const WORKSPACE_GONE: Probe = Probe {
    name: "workspace-gone",
    points: &["workspace-gone"],
    tries: "a row, a word or an answer of a workspace that was deleted",
    attack: Attack::Rehearsed(|ground| Box::pin(workspace_gone(ground))),
};

/// Where rows of a workspace are, by the catalogue: a table that is added is looked at without a word here.
const TABLES: &str = "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid \
    where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'workspace_id' \
      and not a.attisdropped order by 1";

async fn workspace_gone(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let mark = hex::encode(random::bytes::<6>());
    let (account, beside) = (format!("gone_{mark}"), format!("stays_{mark}"));
    let doomed = ground.entrust(&account).await?;
    let neighbour = ground.entrust(&beside).await?;
    let message = format!("said by {account} and by nobody else");
    doomed.post(&message).await?;
    neighbour.post("something else").await?;
    let id: WorkspaceId = doomed.workspace.id.parse()?;
    let owner = ground.owner().await?;
    let before = rows(&owner, id).await?;
    let held = before.iter().filter(|(_, rows)| *rows > 0).count();
    let connection: ConnectionId = doomed.connected.connection.parse()?;
    let at_platform = ground.platform().account(&account).ok_or_else(|| Failure::unproven("there is no account"))?;
    let label = format!("label_{mark}");
    let labelled = doomed.workspace.admin.post("/v1/api-keys", &json!({ "label": label, "role": "service" })).await?;
    expect(&labelled, 201)?;
    let plain = [
        Needle::new("the id of a connection", connection.uuid().to_string()),
        Needle::new("the id of a connection, as it is told", &doomed.connected.connection),
        Needle::new("the id", id.uuid().to_string()),
        Needle::new("the id, as it is told", &doomed.workspace.id),
        Needle::new("the name of an account", &account),
        Needle::new("the id of an account", &at_platform.id),
        Needle::new("the label of a key", &label),
    ];
    let found = words(&owner, &plain).await?;
    let unseen = plain.iter().find(|needle| !found.iter().any(|(_, name)| *name == needle.name));
    if held < 5 || unseen.is_some() {
        let unseen = unseen.map_or("nothing", |needle| needle.name.as_str());
        return Err(Failure::unproven(format!(
            "the workspace is not found where it is: {held} tables, {unseen} unseen"
        )));
    }
    // What was said is sealed while the workspace lives: only afterwards is it looked for, with all the rest.
    let needles: Vec<_> = plain.into_iter().chain([Needle::new("a message", &message)]).collect();
    evidence.saw(format!("before: rows in {held} tables, words in {} places", found.len()), &doomed.workspace.id, "");

    let name = text(&expect(&doomed.workspace.admin.get("/v1/workspace").await?, 200)?, "/name").to_owned();
    let told = ground.operate(&["workspace", "shred", &doomed.workspace.id, "--confirm", &name]).await?;
    evidence.tried(
        "deleted-workspaces",
        "a workspace with an account, a key, a mandate and acts",
        &name,
        told.to_string(),
    );
    for (table, rows) in rows(&owner, id).await? {
        if rows > 0 {
            let row = row(&owner, &table, id).await?;
            return Err(Failure::broken(
                format!("{rows} rows of a deleted workspace are left in {table}"),
                json!({ "table": table, "rows": rows, "row_sha256": crate::evidence::sha256(row.as_bytes()) }),
            ));
        }
        evidence.tried("tenant-tables", format!("{table}: no row is left"), &table, "0");
    }
    if let Some((place, what)) = words(&owner, &needles).await?.into_iter().find(|(place, what)| !may_stay(place, what))
    {
        return Err(Failure::broken(format!("{what} of a deleted workspace is left in {place}"), place));
    }
    let refused = doomed.workspace.admin.get("/v1/connections").await?;
    if refused.status.is_success() {
        return Err(Failure::broken("a key of a deleted workspace is answered", refused.json()));
    }
    evidence.tried("deleted-workspaces", "its admin's key, afterwards", "GET /v1/connections", refused.status.as_str());
    neighbour.post("something else still").await?;
    evidence.saw("the workspace beside it goes on", &beside, "200");
    Ok(evidence)
}

/// That a workspace was deleted, and when, is kept by its id: that is what the certificate is made of. That there is an account is its
/// owner's own row, and no workspace's.
fn may_stay(place: &str, what: &str) -> bool {
    matches!((place, what), ("shreddings.id", "the id") | ("accounts.subject", "the id of an account"))
}

async fn rows(owner: &Session, workspace: WorkspaceId) -> Result<Vec<(String, i64)>, Failure> {
    let mut counted = Vec::new();
    for table in owner.client.query(TABLES, &[]).await? {
        let table: String = table.try_get(0)?;
        let statement = format!("select count(*) from keyholder.\"{table}\" where workspace_id = $1::text::uuid");
        let rows = owner.client.query_one(&statement, &[&workspace.uuid().to_string()]).await?.try_get(0)?;
        counted.push((table, rows));
    }
    Ok(counted)
}

/// One of the rows that are left, as text.
async fn row(owner: &Session, table: &str, workspace: WorkspaceId) -> Result<String, Failure> {
    let statement = format!("select t::text from keyholder.\"{table}\" t where workspace_id = $1::text::uuid limit 1");
    Ok(owner.client.query_one(&statement, &[&workspace.uuid().to_string()]).await?.try_get(0)?)
}

/// Where a word is, in every value of every table: the place, and which word.
async fn words(owner: &Session, needles: &[Needle]) -> Result<Vec<(String, String)>, Failure> {
    let cells = dump::every_cell(owner).await?;
    let found = cells.iter().flat_map(|cell| {
        needles
            .iter()
            .filter(|needle| needle.within(&cell.bytes).is_some())
            .map(|needle| (cell.place.clone(), needle.name.clone()))
    });
    Ok(found.collect())
}
