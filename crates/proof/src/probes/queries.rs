//! Queries: each names the workspace that it is for. Row-level security stands behind them as a second wall; here it is opened, and the
//! first one must hold alone.

use std::path::Path;

use serde_json::{Value, json};

use super::routes::Walk;
use crate::{
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    routes::Guard,
    source::SourceTree,
    stock::Stock,
    tenancy::Owner,
};

/// Whether a query takes the wrong tenant's rows once nothing but the query says whose they are.
pub(super) const SCOPED_QUERIES: Probe = Probe {
    name: "scoped-queries",
    points: &["scoped-queries"],
    tries: "every route from another workspace and from a role below, with row-level security opened; and every statement of the source for the workspace that it names",
    attack: Attack::Audited(|ground, tree| Box::pin(scoped_queries(ground, tree))),
};

/// Where the statements are kept that the program is built from, all of them.
const STATEMENTS: &str = ".sqlx/";
/// The statements over all tenants at once that rehearsals ask by the owner's login, which no serving process has.
const TALLIES: &str = "crates/store/src/tally.rs";

async fn scoped_queries(ground: &Ground, tree: &SourceTree) -> Outcome {
    let owner = Owner::open(ground.login("owner")?).await?;
    let tables = owner.tenant_tables().await?;
    let mut evidence = Evidence::new();
    statements(tree, &tables, &mut evidence).await?;

    let stock = Stock::new(ground, "scoped").await?;
    let table = ground.table().await?;
    let opened = Opened::begin(&owner).await?;
    let walked = walk(ground, &stock, &owner, &table, &mut evidence).await;
    opened.end(&owner).await?;
    walked.map(|()| evidence)
}

async fn walk(
    ground: &Ground,
    stock: &Stock<'_>,
    owner: &Owner,
    table: &crate::routes::Table,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let walk = Walk::prepare(ground, stock, table).await?;
    // The allowed thing: who may sees his own, and the search finds it there.
    let own = stock.workspace.admin.get("/v1/connections").await?;
    if expect(&own, 200).is_err() || !walk.is_private(&own) {
        return Err(Failure::unproven("the workspace does not see its own connections"));
    }
    evidence.saw("the workspace sees its own connections", "GET /v1/connections", &own.body);
    let workspace = owner.workspace("scoped").await?;
    let before = owner.state_of(&workspace).await?;
    for route in table.routes.iter().filter(|route| route.guard == Guard::ApiKey) {
        walk.try_from_elsewhere(route, evidence).await?;
        walk.try_from_below(route, evidence).await?;
    }
    for ((name, was), (_, is)) in before.iter().zip(owner.state_of(&workspace).await?) {
        if *was != is {
            let obtained = json!({ "workspace": workspace, "table": name, "before": was, "after": is });
            return Err(Failure::broken(format!("another workspace has changed {name}"), obtained));
        }
    }
    Ok(())
}

/// The tenants' policies, opened for a while.
struct Opened {
    /// What puts each back as it was.
    back: Vec<String>,
}

impl Opened {
    async fn begin(owner: &Owner) -> Result<Self, Failure> {
        let back = owner
            .texts(
                "select format('alter policy %I on %I.%I using (%s)%s', policyname, schemaname, tablename, qual, \
                   case when with_check is null then '' else ' with check (' || with_check || ')' end) \
                 from pg_policies where schemaname = 'keyholder' and policyname like 'tenant%' order by tablename",
            )
            .await?;
        let open = owner
            .texts(
                "select format('alter policy %I on %I.%I using (true)%s', policyname, schemaname, tablename, \
                   case when with_check is null then '' else ' with check (true)' end) \
                 from pg_policies where schemaname = 'keyholder' and policyname like 'tenant%' order by tablename",
            )
            .await?;
        if open.is_empty() {
            return Err(Failure::unproven("no tenant's policy was found"));
        }
        owner.sql.client.batch_execute(&open.join("; ")).await?;
        Ok(Self { back })
    }

    async fn end(self, owner: &Owner) -> Result<(), Failure> {
        Ok(owner.sql.client.batch_execute(&self.back.join("; ")).await?)
    }
}

/// Every statement of the source that reads or writes a tenant's table says whose rows it means.
async fn statements(tree: &SourceTree, tables: &[String], evidence: &mut Evidence) -> Result<(), Failure> {
    // The search finds what it looks for, and lets pass what is as it should be.
    let (loose, tied) =
        ("select id from connections where state = 'active'", "select id from connections c where c.workspace_id = $1");
    if tables.iter().any(|table| table == "connections") && (is_scoped(loose, tables) || !is_scoped(tied, tables)) {
        return Err(Failure::unproven("the search for statements without a workspace does not work"));
    }
    let sequence = |text: &str| format!(" {} ", words(text).join(" "));
    let tallies = tree.read(Path::new(TALLIES)).map(|source| sequence(&source)).unwrap_or_default();
    let mut found = 0;
    for path in tree.tracked().await? {
        let is_statement =
            path.starts_with(STATEMENTS) && path.extension().is_some_and(|extension| extension == "json");
        // One that is about to be replaced is tracked, and no more there.
        let Some(kept) = is_statement.then(|| tree.read(&path).ok()).flatten() else { continue };
        let kept: Value = serde_json::from_str(&kept)?;
        let statement = text(&kept, "/query");
        if tallies.contains(&sequence(statement)) {
            continue;
        }
        if !is_scoped(statement, tables) {
            let obtained = json!({ "file": path.display().to_string(), "statement": statement });
            return Err(Failure::broken("a statement on a tenant's table does not say whose rows it means", obtained));
        }
        if touches(&words(statement), tables) {
            found += 1;
            evidence.tried("tenant-queries", words(statement).join(" "), statement, "scoped");
        }
    }
    if found == 0 { Err(Failure::unproven("no statement on a tenant's table was found")) } else { Ok(()) }
}

/// A statement's words and signs of names, in small letters.
fn words(statement: &str) -> Vec<String> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let parts = statement.split(|character| !is_part(character)).filter(|word| !word.is_empty());
    parts.map(str::to_lowercase).collect()
}

/// Whether a statement reads or writes one of the tables: whether one is named behind a word that leads to tables, with its schema or
/// without, alone or in a list, before a word that leads to something else.
fn touches(words: &[String], tables: &[String]) -> bool {
    let mut is_list = false;
    for word in words {
        match word.as_str() {
            "from" | "join" | "into" | "update" | "using" => is_list = true,
            // Whatever follows is no list of tables.
            "select" | "where" | "on" | "set" | "values" | "order" | "group" | "limit" | "returning" | "having" => {
                is_list = false;
            }
            name if is_list && tables.iter().any(|table| table == name) => return true,
            _ => {}
        }
    }
    false
}

/// Whether a statement on a tenant's table names the workspace: among what it inserts, or in what selects the rows.
fn is_scoped(statement: &str, tables: &[String]) -> bool {
    let words = words(statement);
    if !touches(&words, tables) {
        return true;
    }
    let inserts = words.first().is_some_and(|word| word == "insert");
    let selecting = words.iter().position(|word| matches!(word.as_str(), "where" | "on" | "using"));
    let from = if inserts { Some(0) } else { selecting };
    let named = |word: &String| word == "workspace_id" || word == "current_workspace";
    from.is_some_and(|from| words.iter().skip(from).any(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_its_workspace_where_it_selects_rows() {
        let tables = ["connections".to_owned(), "mandates".to_owned()];
        for (statement, scoped) in [
            ("select 1", true),
            ("select id from nodes", true),
            ("select id from connections", false),
            ("select id from keyholder.connections", false),
            ("select n.id from nodes n, connections c", false),
            ("select n.id from nodes as n, keyholder.connections c where n.id = $1", false),
            ("select n.connections from nodes n where n.connections > 0", true),
            ("select workspace_id, id from connections where id = $1", false),
            ("select id from connections where workspace_id = $1 and id = $2", true),
            ("select c.id from nodes n join connections c on c.workspace_id = n.w", true),
            ("update mandates set revoked_at = now() where id = $1", false),
            ("delete from mandates where id = $1 and workspace_id = $2", true),
            ("insert into mandates (workspace_id, id) values ($1, $2)", true),
            ("insert into mandates (id) values ($1)", false),
        ] {
            assert_eq!(is_scoped(statement, &tables), scoped, "{statement}");
        }
    }
}
