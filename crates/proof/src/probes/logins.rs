//! The database's logins: each for its own work, none for another's, and all of them replaced while the product is used.

mod rotating;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use memchr::memmem;
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

use self::rotating::Rotating;
use super::tenants::Tenants;
use crate::{
    caller::Caller,
    database::Session,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::text,
    probe::{Attack, Probe},
    schedule::{Schedule, Step},
    source::SourceTree,
    tenancy::{Came, Owner},
};

/// Whether a login can do more than its own work.
pub(super) const LEAST_PRIVILEGE_ROLES: Probe = Probe {
    name: "least-privilege-roles",
    points: &["least-privilege-roles"],
    tries: "everything that is not its work, by each of the logins that serve: other tables, other groups, the owner's rights, the server's files",
    attack: Attack::Rehearsed(|ground| Box::pin(least_privilege_roles(ground))),
};

/// Whether passwords of the database outlive their rotation, or a rotation costs a request.
pub(super) const LOGIN_ROTATION: Probe = Probe {
    name: "login-rotation",
    points: &[
        "login-rotation",
        "logins-reread",
        "logins-rested",
        "overdue-logins",
        "logins-in-source",
        "scheduled-rotations",
    ],
    tries: "a request that fails while the shipped schedule rotates the logins, a former login that still gets in afterwards, an overdue one that does not show, a login in the source",
    attack: Attack::Audited(|ground, tree| Box::pin(login_rotation(ground, tree))),
};

/// The logins that serve, each with a piece of its own work.
const LOGINS: [(&str, &str); 4] = [
    ("app", "select count(*)::text from keyholder.credentials"),
    ("ledger", "select count(*)::text from keyholder.ledger_standing()"),
    ("lookup", "select environment from keyholder.lookup_installation()"),
    ("loader", "select count(*)::text from keyholder.tuples"),
];
/// What the loader reads: the facts that permission is decided from.
const LOADED: [&str; 13] = [
    "heads",
    "workspaces",
    "api_keys",
    "tuples",
    "connections",
    "mandates",
    "budgets",
    "return_addresses",
    "installation_tuples",
    "role_templates",
    "role_assignments",
    "objects",
    "relationships",
];
/// What the application's login reads (r) and does to a table: inserts (i), updates (u), deletes (d). A table that is not here is none of its.
const APPS: [(&str, &str); 39] = [
    ("accounts", "ri"),
    ("acts", "ru"),
    ("api_keys", "riu"),
    ("audit", "ri"),
    ("budgets", "riud"),
    ("connect_links", "riu"),
    ("connections", "riud"),
    ("consents", "ri"),
    ("credentials", "riud"),
    ("data_keys", "riud"),
    ("epochs", "riu"),
    ("fga_assertions", "riud"),
    ("fga_changes", "rid"),
    ("fga_models", "rid"),
    ("fga_stores", "riud"),
    ("fga_tuples", "rid"),
    ("heads", "riu"),
    ("installation_audit", "ri"),
    ("installation_tuples", "rid"),
    ("jobs", "riud"),
    ("kill_drill_connections", "riu"),
    ("kill_drills", "riu"),
    ("mandates", "riud"),
    ("nodes", "riud"),
    ("objects", "riud"),
    ("operators", "riu"),
    ("provider_files", "riu"),
    ("refreshes", "riud"),
    ("relationships", "rid"),
    ("retired_credentials", "riud"),
    ("return_addresses", "rid"),
    ("role_assignments", "rid"),
    ("role_templates", "riud"),
    ("rotations", "riu"),
    ("shreddings", "ri"),
    ("statement_publishers", "riu"),
    ("trust_statements", "ri"),
    ("tuples", "riud"),
    ("workspaces", "riu"),
];
/// The shipped schedule, where its service keeps the addresses, and after how many days a login is overdue unless a blueprint says otherwise.
const SCHEDULE: &str = "keyholder-logins";
const ADDRESSES: &str = "/etc/keyholder/logins";
const LOGIN_DAYS: u64 = 90;
/// How often it is looked whether a rotation was heard of.
const EVERY: Duration = Duration::from_millis(50);

async fn least_privilege_roles(ground: &Ground) -> Outcome {
    let tenants = Tenants::settle(ground, "privileges").await?;
    let owner = &tenants.owner;
    let mut evidence = Evidence::new();
    let all = owner
        .texts("select quote_ident(relname) from pg_class where relnamespace = 'keyholder'::regnamespace and relkind in ('r', 'p') order by 1")
        .await?;
    let mut names = Vec::new();
    for (group, work) in LOGINS {
        let sql = Session::open(ground.login(group)?).await?;
        let name: String = sql.client.query_one("select current_user::text", &[]).await?.get(0);
        let own = owner.sign("workspace", &tenants.mine, sql.backend().await?, 20_000).await?;
        sql.stand_under(&own).await?;
        let came = sql.attempt(work).await?;
        if !matches!(&came, Came::Through { rows, .. } if *rows > 0) {
            return Err(Failure::unproven(format!("{group} cannot do its own work: {}", came.words())));
        }
        evidence.saw(format!("{group}: {work}: {}", came.words()), work, came.words());
        no_powers(owner, group, &name, &mut evidence).await?;
        for table in &all {
            reaches_no_more(owner, &sql, (group, table), &mut evidence).await?;
        }
        for statement in beyond(owner, &all, &name).await? {
            // One that changes the server's own settings is refused to everybody inside of a transaction.
            let came = if statement.starts_with("alter system") {
                sql.run(&statement).await?
            } else {
                sql.attempt(&statement).await?
            };
            must_be_refused(group, &statement, &came)?;
            evidence.tried("service-roles", format!("{group}: {statement}: refused"), &statement, came.words());
        }
        names.push(name);
    }
    names.sort_unstable();
    names.dedup();
    if names.len() != LOGINS.len() {
        return Err(Failure::broken("contexts share a login", json!(names)));
    }
    tenants.clear().await?;
    Ok(evidence)
}

/// Neither itself nor through a membership is it more than its group.
async fn no_powers(owner: &Owner, group: &str, login: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let powers = format!(
        "select r.rolname || case when r.rolsuper then ' superuser' when r.rolcreaterole then ' createrole' \
           when r.rolcreatedb then ' createdb' when r.rolbypassrls then ' bypassrls' when r.rolreplication then ' replication' \
           when exists (select from pg_namespace n where n.nspname = 'keyholder' and n.nspowner = r.oid) then ' owner' \
           when r.rolname !~ '_{group}(_[0-9]+)?$' then ' member' else '' end \
         from pg_roles r where pg_has_role('{login}', r.oid, 'member') order by 1"
    );
    for power in owner.texts(&powers).await? {
        if power.contains(' ') {
            return Err(Failure::broken(format!("{login} is more than its group: {power}"), power));
        }
        evidence.saw(format!("{login} is {power}"), login, &power);
    }
    Ok(())
}

/// Look-ups and ledger reach no table; the loader reads the facts and writes nothing; and what seals contexts nobody reaches. Column by
/// column, because a privilege may be one column's.
async fn reaches_no_more(
    owner: &Owner,
    sql: &Session,
    (group, table): (&str, &str),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let verbs = match group {
        "app" => APPS.iter().find(|(known, _)| *known == table).map_or("", |(_, verbs)| *verbs),
        "loader" if LOADED.contains(&table) => "r",
        _ => "",
    };
    let columns = format!(
        "select quote_ident(attname) from pg_attribute where attrelid = 'keyholder.{table}'::regclass and attnum > 0 \
         and not attisdropped order by attnum"
    );
    let columns = owner.texts(&columns).await?;
    let mut statements = Vec::new();
    if !verbs.contains('r') {
        statements.extend(columns.iter().map(|column| format!("select {column} from keyholder.{table} limit 1")));
    }
    if !verbs.contains('d') {
        statements.push(format!("delete from keyholder.{table} where false"));
    }
    for column in &columns {
        if !verbs.contains('i') {
            statements.push(format!("insert into keyholder.{table} ({column}) values (default)"));
        }
        if !verbs.contains('u') {
            // It reads no column: the privilege to read cannot be what it lacks.
            statements.push(format!("update keyholder.{table} set {column} = default where false"));
        }
    }
    for statement in statements {
        let came = sql.attempt(&statement).await?;
        must_be_refused(group, &statement, &came)?;
        evidence.tried("database-roles", format!("{group}: {statement}: refused"), &statement, came.words());
    }
    Ok(())
}

/// Refused for want of a privilege, and for nothing else: what fails otherwise says nothing of privileges.
fn must_be_refused(group: &str, statement: &str, came: &Came) -> Result<(), Failure> {
    match came {
        Came::Refused(code) if code == SqlState::INSUFFICIENT_PRIVILEGE.code() => Ok(()),
        Came::Refused(code) => Err(Failure::unproven(format!("{group}: `{statement}` failed by {code}"))),
        Came::Through { first, .. } => {
            let row = first.as_deref().map(|row| sha256(row.as_bytes()));
            let obtained = json!({ "login": group, "statement": statement, "came": came.words(), "row_sha256": row });
            Err(Failure::broken(format!("{group} may `{statement}`, which is not its work"), obtained))
        }
    }
}

/// What is nobody's work who serves.
async fn beyond(owner: &Owner, tables: &[String], login: &str) -> Result<Vec<String>, Failure> {
    let roles = format!(
        "select quote_ident(rolname) from pg_roles where rolname ~ '_(owner|app|ledger|lookup|loader)(_[0-9]+)?$' \
        and not pg_has_role('{login}', oid, 'member') order by 1"
    );
    let mut statements: Vec<_> = owner.texts(&roles).await?.iter().map(|role| format!("set role {role}")).collect();
    for table in tables {
        // Whoever may is stopped by the keys that point at it, and by no privilege: that is no refusal either.
        statements.push(format!("truncate keyholder.{table}"));
        statements.push(format!("alter table keyholder.{table} no force row level security"));
        statements.push(format!("drop table keyholder.{table}"));
    }
    let others = [
        "create table keyholder.mine (a int)",
        "create table public.mine (a int)",
        "create schema mine",
        "create role mine",
        "create function keyholder.mine() returns int language sql as 'select 1'",
        // The same privilege as to set it, and where it is there nothing is changed.
        "alter system reset fsync",
        "select rolpassword from pg_authid",
        "select pg_read_file('postgresql.conf')",
        "copy (select 1) to program 'true'",
        "set session_replication_role = replica",
    ];
    statements.extend(others.map(str::to_owned));
    let powerful = owner.text("select quote_ident(rolname) from pg_roles where rolsuper order by 1 limit 1").await?;
    statements.push(format!("set session authorization {powerful}"));
    Ok(statements)
}

async fn login_rotation(ground: &Ground, tree: &SourceTree) -> Outcome {
    let owner = Owner::open(ground.login("owner")?).await?;
    let rotating = Rotating::prepare(ground, &owner).await?;
    let rotated = rotate(&rotating, &owner, tree).await;
    rotating.remove(&owner).await?;
    rotated
}

async fn rotate(rotating: &Rotating<'_>, owner: &Owner, tree: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    let made = rotating.operate(&["workspace", "create", "Rotating"], false).await?;
    let key = ["api-key", "create", "--workspace", text(&made, "/workspace"), "--role", "admin", "--label", "caller"];
    let key = rotating.operate(&key, false).await?;
    let config = fs::read_to_string(&rotating.config)?;
    let serving = rotating.ground.serve(&config, &[]).await?;
    let caller = rotating.ground.stranger_at(&serving.url).with_key(text(&key, "/api_key"));
    let former = rotating.urls("logins")?;
    kept_as_verifiers(rotating, owner, &former, &mut evidence).await?;

    none_in_source(tree, &former, &mut evidence).await?;
    let schedule = Schedule::shipped(tree, SCHEDULE)?;
    comes_in_time(rotating.ground, &schedule, &mut evidence)?;
    overdue(rotating, owner, &mut evidence).await?;

    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let turn = async {
        let turned = turn(rotating, owner, &schedule).await;
        stop.store(true, Ordering::Relaxed);
        turned
    };
    let (failed, turned) = tokio::join!(go_on(&caller, &stop, &asked), turn);
    let (retired, rested) = turned?;
    if let Some(failed) = failed? {
        return Err(Failure::broken("a request failed while the logins were rotated", failed));
    }
    let asked = asked.load(Ordering::Relaxed).to_string();
    evidence.saw(format!("{asked} requests were served meanwhile, and none failed"), "GET /v1/workspace", &asked);
    let rest =
        format!("the processes take the new files by themselves in the {} s that the unit waits", rested.as_secs());

    for url in &former {
        let login = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once(':'))
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default();
        if Session::open(url).await.is_ok() {
            let obtained = json!({ "login": login, "address_sha256": sha256(url.as_bytes()), "retired": retired });
            return Err(Failure::broken(
                format!("the former login {login} still gets in after its rotation"),
                obtained,
            ));
        }
        evidence.tried("login-rotations", format!("{login}, retired, is turned away"), &login, "refused");
    }
    evidence.tried("scheduled-rotations", rest, SCHEDULE, rested.as_secs().to_string());
    serving.kill().await?;
    Ok(evidence)
}

/// The server holds verifiers, and neither the program nor its configuration holds a password.
async fn kept_as_verifiers(
    rotating: &Rotating<'_>,
    owner: &Owner,
    urls: &[String],
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let kept = owner
        .texts(&format!(
            "select coalesce(rolpassword, '') from pg_authid where rolname ~ '^{}_[a-z]+_[0-9]+$'",
            rotating.name
        ))
        .await?;
    let program = fs::read(rotating.ground.program())?;
    let config = fs::read(&rotating.config)?;
    for url in urls {
        let password = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('@'))
            .and_then(|(login, _)| login.split_once(':'));
        let password = password.map(|(_, password)| password).filter(|password| password.len() >= 32);
        let password = password.ok_or_else(|| Failure::broken("a login has a short password", url.len()))?;
        if kept.iter().any(|verifier| verifier.contains(password) || !verifier.starts_with("SCRAM-SHA-256$")) {
            return Err(Failure::broken(
                "the server keeps a password that is no verifier",
                sha256(password.as_bytes()),
            ));
        }
        let is_in = |bytes: &[u8]| memmem::find(bytes, password.as_bytes()).is_some();
        // The search finds it where it is.
        if !is_in(url.as_bytes()) || is_in(&program) || is_in(&config) {
            return Err(Failure::broken(
                "a password is in the program or in its configuration",
                sha256(password.as_bytes()),
            ));
        }
        let kept = "kept as a verifier, and nowhere else";
        evidence.saw(kept, sha256(password.as_bytes()), "SCRAM-SHA-256");
    }
    Ok(())
}

/// No file of the source has the login of a database in it. Passwords here are made by chance: whatever looks like one of those is one.
async fn none_in_source(tree: &SourceTree, urls: &[String], evidence: &mut Evidence) -> Result<(), Failure> {
    if urls.iter().any(|url| logins_in(url).is_empty()) {
        return Err(Failure::unproven("the search does not find a login where one is"));
    }
    for path in tree.tracked().await? {
        // One that is about to be removed is tracked, and no more there.
        let Ok(read) = tree.read(&path) else { continue };
        if let Some(login) = logins_in(&read).first() {
            let obtained = json!({ "file": path.display().to_string(), "login_sha256": sha256(login.as_bytes()) });
            return Err(Failure::broken("a file of the source has the login of a database", obtained));
        }
        evidence.tried(
            "source-files",
            format!("{}: no login", path.display()),
            path.display().to_string(),
            sha256(read.as_bytes()),
        );
    }
    Ok(())
}

/// The logins of databases in a text whose passwords are none that a person would write as an example: long, with letters and digits.
fn logins_in(text: &str) -> Vec<&str> {
    let after = ["postgres://", "postgresql://"].iter().flat_map(|scheme| text.split(scheme).skip(1));
    let login = |rest: &'_ str| {
        let end = rest.find(|character: char| character == '@' || character.is_whitespace())?;
        rest.get(end..)?.starts_with('@').then_some(end)
    };
    let found = after.filter_map(|rest| rest.get(..login(rest)?));
    found
        .filter(|login| {
            let password = login.split_once(':').map(|(_, password)| password).unwrap_or_default();
            let legal =
                password.chars().all(|character| character.is_ascii_alphanumeric() || "-_.~%+/=".contains(character));
            password.len() >= 16 && legal && password.contains(|character: char| character.is_ascii_digit())
        })
        .collect()
}

/// Goes on asking. What failed, if something did.
async fn go_on(caller: &Caller, stop: &AtomicBool, asked: &AtomicU64) -> Result<Option<Value>, Failure> {
    while !stop.load(Ordering::Relaxed) {
        match caller.get("/v1/workspace").await {
            Ok(reply) if reply.status == 200 => asked.fetch_add(1, Ordering::Relaxed),
            Ok(reply) => return Ok(Some(json!({ "status": reply.status.as_u16(), "answer": reply.json() }))),
            Err(error) => return Ok(Some(json!({ "error": error.to_string() }))),
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(None)
}

/// The shipped schedule comes round before a login is overdue.
fn comes_in_time(ground: &Ground, schedule: &Schedule, evidence: &mut Evidence) -> Result<(), Failure> {
    let said = ground.blueprint().settings.get("database").and_then(|database| database.get("login_days"));
    let (days, most) = (schedule.days, said.and_then(Value::as_u64).unwrap_or(LOGIN_DAYS));
    if days >= most {
        let obtained = json!({ "schedule": SCHEDULE, "every_days": days, "overdue_after_days": most });
        return Err(Failure::broken("the shipped schedule comes round when a login is overdue already", obtained));
    }
    evidence.tried(
        "scheduled-rotations",
        format!("{SCHEDULE}.timer: every {days} days, and a login is overdue after {most}"),
        SCHEDULE,
        days.to_string(),
    );
    Ok(())
}

/// Does what the shipped schedule does, in its order: the next generation is made and takes the former one's place, and the former one is
/// retired. Between the two each process takes the new files by itself, in the time that the unit gives it. One that keeps its session to
/// the end is found by still getting in. Returns what the retirement said, and how long the unit waits before it.
async fn turn(rotating: &Rotating<'_>, owner: &Owner, schedule: &Schedule) -> Result<(Value, Duration), Failure> {
    let logins = rotating.folder.join("logins").display().to_string();
    let (mut said, mut rested) = (Value::Null, Duration::ZERO);
    for step in &schedule.steps {
        match step {
            Step::Run(command) => {
                let arguments: Vec<&str> = command
                    .iter()
                    .map(|word| if word == ADDRESSES { logins.as_str() } else { word.as_str() })
                    .collect();
                said = rotating.operate(&arguments, true).await?;
                if arguments.contains(&"--rotate-logins") {
                    rested = Duration::ZERO;
                }
            }
            Step::Rest(most) => {
                rested += *most;
                taken_up(rotating, owner, *most).await?;
            }
        }
    }
    if rested.is_zero() {
        let obtained = json!({ "schedule": SCHEDULE, "waits_s": 0, "retired": said });
        return Err(Failure::broken(
            "the shipped schedule retires logins before anybody can have taken new ones",
            obtained,
        ));
    }
    Ok((said, rested))
}

/// Waits as the unit does, but no longer than until the former generation has no session. Nobody is told of the new files.
async fn taken_up(rotating: &Rotating<'_>, owner: &Owner, most: Duration) -> Result<(), Failure> {
    let taken = async {
        while !rotating.in_use(owner, 1).await?.is_empty() || rotating.in_use(owner, 2).await?.is_empty() {
            tokio::time::sleep(EVERY).await;
        }
        Ok(())
    };
    // Whoever is late is found by the retirement, as in earnest.
    tokio::time::timeout(most, taken).await.unwrap_or(Ok(()))
}

/// A login that is overdue shows.
async fn overdue(rotating: &Rotating<'_>, owner: &Owner, evidence: &mut Evidence) -> Result<(), Failure> {
    let fresh = rotating.operate(&["doctor"], false).await?.to_string();
    if fresh.contains("is to be rotated") {
        return Err(Failure::unproven("a login that was just made is called overdue"));
    }
    let old = owner
        .texts(&format!(
            "select quote_ident(rolname) from pg_roles where rolname ~ '^{}_[a-z]+_1$' order by 1",
            rotating.name
        ))
        .await?;
    for login in &old {
        owner
            .sql
            .client
            .batch_execute(&format!("comment on role {login} is 'keyholder login made 2001-01-01T00:00:00Z'"))
            .await?;
    }
    let said = rotating.operate(&["doctor"], false).await?.to_string();
    for login in &old {
        if !said.contains(&format!("`{login}`")) || !said.contains("is to be rotated") {
            return Err(Failure::broken(format!("{login} is overdue, and the doctor does not say so"), said));
        }
        evidence.tried("overdue-logins", format!("{login}, overdue, is named"), login, &said);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_told_from_an_example_of_one() {
        let made =
            format!("url = \"{}://kh_app_1:{}@%2Frun/db\"", "postgres", "8v9s6f7q8r9t0v1w2x3y48v9s6f7q8r9t0v1w2x3y4a");
        assert_eq!(logins_in(&made).len(), 1);
        for example in ["a:b", "USER:PASSWORD", "{login}:{password}", "owner:hunter22", "kh_app_1:swordfish-1"] {
            assert!(logins_in(&format!("{}://{example}@localhost/db", "postgresql")).is_empty(), "{example}");
        }
    }
}
