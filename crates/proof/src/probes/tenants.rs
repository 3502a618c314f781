//! Tenants in one database, with the application out of the way: whoever has its login and any context but the right one.

use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::{
    database::Session,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe},
    tenancy::{Came, Owner},
};

/// Whether a login of the application's sees a tenant's rows without that tenant's signed context.
pub(super) const ROW_LEVEL_SECURITY: Probe = Probe {
    name: "row-level-security",
    points: &["row-level-security"],
    tries: "every tenant table by the application's logins, without a context and under forged, stolen, expired and foreign ones",
    attack: Attack::Rehearsed(|ground| Box::pin(row_level_security(ground))),
};

/// Whether one tenant can read or write another's rows.
pub(super) const ISOLATION_BATTERY: Probe = Probe {
    name: "isolation-battery",
    points: &["isolation-battery"],
    tries: "every tenant table: select, insert, update, delete, upsert, COPY, a moved row and every foreign key, from another tenant's transaction",
    attack: Attack::Rehearsed(|ground| Box::pin(isolation_battery(ground))),
};

/// The application's logins that reach tables at all.
const LOGINS: [&str; 2] = ["app", "loader"];
/// For how long an honest context of a walk is good, in milliseconds: as long as the product's own.
const LIFE_MS: i64 = 20_000;

/// Two tenants, of whom the first has a row in every tenant table.
pub(super) struct Tenants {
    pub(super) owner: Owner,
    pub(super) tables: Vec<String>,
    pub(super) mine: String,
    pub(super) other: String,
    /// The first one's mandate, by the database's id.
    pub(super) mandate: String,
}

impl Tenants {
    pub(super) async fn settle(ground: &Ground, name: &str) -> Result<Self, Failure> {
        let mine = ground.workspace(name).await?;
        let rival = format!("{name}_rival");
        ground.workspace(&rival).await?;
        let account = ground.connect(&mine.admin, &format!("{name}_acct"), &["profile.read", "post.create"]).await?;
        let limits = json!([{ "unit": "posts", "per": "day", "cap": 5 }]);
        let agent = ground.agent(&mine.admin, &account.connection, &["post.create"], &limits).await?;
        let done = agent.caller.act(&agent.mandate, "post.create", &json!({ "text": "mine" }), Some("one")).await?;
        expect(&done, 200)?;
        let owner = Owner::open(ground.login("owner")?).await?;
        let (mine, other) = (owner.workspace(name).await?, owner.workspace(&rival).await?);
        let tables = owner.tenant_tables().await?;
        for table in &tables {
            owner.plant(table, &mine).await?;
        }
        let mandate = owner
            .text(&format!(
                "select id::text from keyholder.mandates where workspace_id = '{mine}' and revoked_at is null limit 1"
            ))
            .await?;
        Ok(Self { owner, tables, mine, other, mandate })
    }

    /// Takes away what was planted, so that nobody works at it.
    pub(super) async fn clear(&self) -> Result<(), Failure> {
        let planted =
            format!("delete from keyholder.jobs where workspace_id = '{}' and kind = 'planted-by-a-probe'", self.mine);
        self.owner.sql.client.batch_execute(&planted).await?;
        Ok(())
    }

    /// How many rows the first tenant has in a table.
    async fn rows(&self, table: &str) -> Result<u64, Failure> {
        let count = format!("select count(*)::text from keyholder.{table} where workspace_id = '{}'", self.mine);
        Ok(self.owner.text(&count).await?.parse()?)
    }

    /// What a login shows of the first tenant's rows in a table.
    async fn seen(&self, sql: &Session, table: &str) -> Result<Came, Failure> {
        sql.run(&format!("select t::text from keyholder.{table} t where t.workspace_id = '{}'", self.mine)).await
    }
}

async fn row_level_security(ground: &Ground) -> Outcome {
    let tenants = Tenants::settle(ground, "secured").await?;
    let mut evidence = Evidence::new();
    for login in LOGINS {
        let sql = Session::open(ground.login(login)?).await?;
        let elsewhere = Session::open(ground.login(login)?).await?;
        for table in &tenants.tables {
            see_own(&tenants, &sql, (login, table), &mut evidence).await?;
        }
        for (whose, context) in contexts(&tenants, &sql, &elsewhere).await? {
            sql.stand_under(&context).await?;
            for table in &tenants.tables {
                let came = tenants.seen(&sql, table).await?;
                if let Came::Through { rows, first: Some(row) } = &came {
                    let obtained = json!({ "login": login, "table": table, "rows": rows, "row_sha256": sha256(row.as_bytes()),
                        "row": row.chars().take(120).collect::<String>(), "of": tenants.mine });
                    return Err(Failure::broken(
                        format!("{login} sees another tenant's {table} under {whose}"),
                        obtained,
                    ));
                }
                let tried = format!("{login}: {table} under {whose}: {}", came.words());
                evidence.tried("tenant-tables", tried, &context, came.words());
            }
        }
        sql.stand_under("").await?;
        circumvent(&tenants, &sql, login, &mut evidence).await?;
    }
    everything_is_forced(&tenants, &mut evidence).await?;
    tenants.clear().await?;
    Ok(evidence)
}

/// The allowed thing: under its own context a login sees all rows of a table that it may read at all.
async fn see_own(
    tenants: &Tenants,
    sql: &Session,
    (login, table): (&str, &str),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let context = tenants.owner.sign("workspace", &tenants.mine, sql.backend().await?, LIFE_MS).await?;
    sql.stand_under(&context).await?;
    let there = tenants.rows(table).await?;
    if there == 0 {
        return Err(Failure::unproven(format!("{table} has no row to be stolen")));
    }
    match tenants.seen(sql, table).await? {
        Came::Through { rows, .. } if rows != there => {
            Err(Failure::unproven(format!("{login} sees {rows} of {there} rows of its own in {table}")))
        }
        came => {
            evidence.saw(format!("{login}: {table} under its own context: {}", came.words()), table, came.words());
            Ok(())
        }
    }
}

/// Every context that is not the tenant's own on this backend at this moment.
pub(super) async fn contexts(
    tenants: &Tenants,
    sql: &Session,
    elsewhere: &Session,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let (owner, pid) = (&tenants.owner, sql.backend().await?);
    let own = owner.sign("workspace", &tenants.mine, pid, LIFE_MS).await?;
    let other = owner.sign("workspace", &tenants.other, pid, LIFE_MS).await?;
    let forged = format!("{}{}", own.get(..own.len() - 64).unwrap_or_default(), sha256(own.as_bytes()));
    let last = if own.ends_with('0') { '1' } else { '0' };
    Ok(vec![
        ("none", String::new()),
        ("one without a signature", own.rsplit_once('|').map(|(claim, _)| format!("{claim}|")).unwrap_or_default()),
        ("one with a made-up signature", forged),
        ("one with a changed digit", format!("{}{last}", own.get(..own.len() - 1).unwrap_or_default())),
        ("another tenant's, renamed", other.replace(&tenants.other, &tenants.mine)),
        ("another backend's", owner.sign("workspace", &tenants.mine, elsewhere.backend().await?, LIFE_MS).await?),
        ("one that is over", owner.sign("workspace", &tenants.mine, pid, -1_000).await?),
        ("an account's of the same id", owner.sign("account", &tenants.mine, pid, LIFE_MS).await?),
        ("the installation's", owner.sign("installation", "00000000-0000-0000-0000-000000000000", pid, LIFE_MS).await?),
        ("another tenant's own", other),
    ])
}

/// Ways around the policies that are not contexts.
async fn circumvent(tenants: &Tenants, sql: &Session, login: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let roles =
        tenants.owner.texts("select quote_ident(rolname) from pg_roles where rolsuper or rolname ~ '_owner$'").await?;
    let mut ways: Vec<_> = roles.iter().map(|role| format!("set role {role}")).collect();
    for table in &tenants.tables {
        ways.push(format!("alter table keyholder.{table} disable row level security"));
        ways.push(format!("create policy all_of_it on keyholder.{table} using (true)"));
        ways.push(format!("set local row_security = off; select t::text from keyholder.{table} t"));
        ways.push(format!("truncate keyholder.{table}"));
    }
    for way in ways {
        let came = sql.attempt(&way).await?;
        if matches!(&came, Came::Through { .. }) {
            return Err(Failure::broken(format!("{login} may `{way}`"), json!({ "login": login, "statement": way })));
        }
        evidence.saw(format!("{login}: {way}: {}", came.words()), &way, came.words());
    }
    Ok(())
}

/// No table of the schema is without forced row-level security, whether it is a tenant's or not.
async fn everything_is_forced(tenants: &Tenants, evidence: &mut Evidence) -> Result<(), Failure> {
    let all = "select relname || ' ' || relrowsecurity::text || ' ' || relforcerowsecurity::text from pg_class \
               where relnamespace = 'keyholder'::regnamespace and relkind in ('r', 'p') order by 1";
    for table in tenants.owner.texts(all).await? {
        if !table.ends_with(" true true") {
            return Err(Failure::broken("a table has no forced row-level security", table));
        }
        evidence.saw(format!("forced: {table}"), "pg_class", &table);
    }
    Ok(())
}

async fn isolation_battery(ground: &Ground) -> Outcome {
    let tenants = Tenants::settle(ground, "isolated").await?;
    let mut evidence = Evidence::new();
    for login in LOGINS {
        let sql = Session::open(ground.login(login)?).await?;
        let pid = sql.backend().await?;
        for table in &tenants.tables {
            let own = tenants.owner.sign("workspace", &tenants.mine, pid, LIFE_MS).await?;
            let foreign = tenants.owner.sign("workspace", &tenants.other, pid, LIFE_MS).await?;
            see_own(&tenants, &sql, (login, table), &mut evidence).await?;
            let loot = Loot::of(&tenants, table).await?;
            for (operation, statement) in loot.statements(&tenants) {
                sql.stand_under(&foreign).await?;
                loot.attempt(&tenants, &sql, (login, operation, &statement), &mut evidence).await?;
            }
            sql.stand_under(&own).await?;
            let moved = format!(
                "update keyholder.{table} set workspace_id = '{}' where workspace_id = '{}'",
                tenants.other, tenants.mine
            );
            loot.attempt(&tenants, &sql, (login, "a changed workspace_id", &moved), &mut evidence).await?;
        }
        foreign_head(&tenants, &sql, login, &mut evidence).await?;
    }
    let mut keys = 0;
    for table in &tenants.tables {
        keys += foreign_keys(&tenants, table, &mut evidence).await?;
    }
    if keys == 0 {
        return Err(Failure::unproven("no foreign key between tenants' tables was found"));
    }
    tenants.clear().await?;
    Ok(evidence)
}

/// A row of the first tenant's, as an attacker who has seen it once would write it again.
struct Loot<'t> {
    table: &'t str,
    columns: String,
    /// The row as JSON.
    row: String,
    key: String,
}

impl<'t> Loot<'t> {
    async fn of(tenants: &Tenants, table: &'t str) -> Result<Self, Failure> {
        let owner = &tenants.owner;
        let of_table = format!("a.attrelid = 'keyholder.{table}'::regclass");
        let columns = format!(
            "select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a \
            where {of_table} and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''"
        );
        let key = format!(
            "select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a join pg_index i \
            on i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey) where {of_table}"
        );
        let row = format!(
            "select to_jsonb(t)::text from keyholder.{table} t where workspace_id = '{}' limit 1",
            tenants.mine
        );
        Ok(Self {
            table,
            columns: owner.text(&columns).await?,
            row: owner.text(&row).await?,
            key: owner.text(&key).await?,
        })
    }

    /// The row as the source of an insertion.
    fn source(&self, changed: &str) -> String {
        let Self { table, columns, row, .. } = self;
        let row = row.replace('\'', "''");
        format!("select {columns} from jsonb_populate_record(null::keyholder.{table}, '{row}'::jsonb || {changed})")
    }

    fn statements(&self, tenants: &Tenants) -> Vec<(&'static str, String)> {
        let (Self { table, columns, key, .. }, mine) = (self, &tenants.mine);
        let same = self.source("'{}'::jsonb");
        vec![
            ("select", format!("select t::text from keyholder.{table} t where workspace_id = '{mine}'")),
            ("insert", format!("insert into keyholder.{table} ({columns}) {same}")),
            (
                "update",
                format!("update keyholder.{table} set workspace_id = workspace_id where workspace_id = '{mine}'"),
            ),
            ("delete", format!("delete from keyholder.{table} where workspace_id = '{mine}'")),
            (
                "upsert",
                format!(
                    "insert into keyholder.{table} ({columns}) {same} on conflict ({key}) do update set workspace_id = excluded.workspace_id"
                ),
            ),
            (
                "COPY to",
                format!("copy (select t::text from keyholder.{table} t where workspace_id = '{mine}') to stdout"),
            ),
            ("COPY from", format!("copy keyholder.{table} ({columns}) from stdin")),
        ]
    }

    /// Tries one, and breaks where it touches or shows a row, or was stopped by something that is no wall between tenants.
    async fn attempt(
        &self,
        tenants: &Tenants,
        sql: &Session,
        (login, operation, statement): (&str, &str, &str),
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let came = if operation.starts_with("COPY") {
            copy(sql, statement).await?
        } else {
            attempt_raised(tenants, sql, statement).await?
        };
        if !came.is_nothing() {
            let obtained = json!({ "login": login, "table": self.table, "operation": operation, "came": came.words(),
                "row_sha256": sha256(self.row.as_bytes()), "row": self.row.chars().take(160).collect::<String>() });
            return Err(Failure::broken(
                format!(
                    "{login}: {operation} on another tenant's {} was not stopped by what separates tenants",
                    self.table
                ),
                obtained,
            ));
        }
        let tried = format!("{login}: {operation} on {}: {}", self.table, came.words());
        let subject = if matches!(operation, "select" | "COPY to") { "foreign-reads" } else { "foreign-writes" };
        evidence.tried(subject, &tried, statement, came.words());
        evidence.tried("tenant-tables", tried, statement, came.words());
        Ok(())
    }
}

/// Tries one statement in a transaction that leaves nothing, and in which both tenants' heads count as raised: the rule that facts change
/// under a raised head alone fires before the policies, and would hide one that is broken.
async fn attempt_raised(tenants: &Tenants, sql: &Session, statement: &str) -> Result<Came, Failure> {
    sql.client.batch_execute("begin").await?;
    let came = raised(tenants, sql, statement).await;
    sql.client.batch_execute("rollback").await?;
    came
}

async fn raised(tenants: &Tenants, sql: &Session, statement: &str) -> Result<Came, Failure> {
    let transaction: String = sql.client.query_one("select pg_current_xact_id()::text", &[]).await?.get(0);
    let raise = format!(
        "update keyholder.heads set raised_in = '{transaction}'::xid8 where kind = 'workspace' and id in ('{}', '{}')",
        tenants.mine, tenants.other
    );
    if tenants.owner.sql.client.execute(&raise, &[]).await? != 2 {
        return Err(Failure::unproven("a tenant has no head that could be raised"));
    }
    sql.run(statement).await
}

/// The first tenant's head, from the second's transaction: whoever may raise it may begin to change the first one's facts.
async fn foreign_head(tenants: &Tenants, sql: &Session, login: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let which = format!("kind = 'workspace' and id = '{}'", tenants.mine);
    let read = format!("select h::text from keyholder.heads h where {which}");
    let raise = format!("update keyholder.heads set revision = revision + 1 where {which}");
    for (whose, workspace) in [("own", &tenants.mine), ("foreign", &tenants.other)] {
        let signed = tenants.owner.sign("workspace", workspace, sql.backend().await?, LIFE_MS).await?;
        sql.stand_under(&signed).await?;
        for (subject, statement) in [("foreign-reads", &read), ("foreign-writes", &raise)] {
            let came = sql.attempt(statement).await?;
            let is_there = matches!(&came, Came::Through { rows: 1, .. });
            match whose {
                "own" if !is_there && (login == "app" || subject == "foreign-reads") => {
                    return Err(Failure::unproven(format!("{login} does not reach its own head: {}", came.words())));
                }
                "foreign" if !came.is_nothing() => {
                    let obtained = json!({ "login": login, "statement": statement, "came": came.words() });
                    return Err(Failure::broken(format!("{login} reaches another tenant's head"), obtained));
                }
                "foreign" => evidence.tried(
                    subject,
                    format!("{login}: another tenant's head: {}", came.words()),
                    statement,
                    came.words(),
                ),
                _ => evidence.saw(format!("{login}: its own head: {}", came.words()), statement, came.words()),
            }
        }
    }
    Ok(())
}

/// COPY has a protocol of its own.
async fn copy(sql: &Session, statement: &str) -> Result<Came, Failure> {
    use futures_util::StreamExt;
    let refused = |error: tokio_postgres::Error| match error.code() {
        Some(code) => Ok(Came::Refused(code.code().to_owned())),
        None => Err(Failure::from(error)),
    };
    if statement.ends_with("from stdin") {
        // Where it is not refused, the server waits for rows, which this way of asking does not have: that it waits is enough.
        return match sql.client.batch_execute(statement).await {
            Err(error) if error.code().is_some() => refused(error),
            _ => Ok(Came::Through { rows: 1, first: None }),
        };
    }
    match sql.client.copy_out(statement).await {
        Err(error) => refused(error),
        Ok(out) => {
            let mut out = Box::pin(out);
            let (mut rows, mut first) = (0, None);
            while let Some(line) = out.next().await {
                match line {
                    Ok(line) => {
                        rows += 1;
                        first = first.or_else(|| Some(String::from_utf8_lossy(&line).into_owned()));
                    }
                    Err(error) => return refused(error),
                }
            }
            Ok(Came::Through { rows, first })
        }
    }
}

/// Every foreign key of a tenant's table to another, alone: with the policies, all other keys and all rules of a row out of the way, a row of one tenant's that
/// points at another's must be refused by this very key.
async fn foreign_keys(tenants: &Tenants, table: &str, evidence: &mut Evidence) -> Result<usize, Failure> {
    let list = format!(
        "select c.conname || ' ' || c.confrelid::regclass::text || ' ' || (select string_agg(quote_ident(a.attname), ',') \
           from pg_attribute a where a.attrelid = c.conrelid and a.attnum = any (c.conkey) and a.attname <> 'workspace_id') \
         from pg_constraint c join pg_attribute r on r.attrelid = c.confrelid and r.attname = 'workspace_id' and not r.attisdropped \
         where c.conrelid = 'keyholder.{table}'::regclass and c.contype = 'f' and c.confrelid <> 'keyholder.workspaces'::regclass"
    );
    let keys = tenants.owner.texts(&list).await?;
    for key in &keys {
        let mut words = key.split(' ');
        let (Some(name), Some(to), Some(columns)) = (words.next(), words.next(), words.next()) else {
            return Err(Failure::broken(format!("a foreign key of {table} is not tied to the tenant"), key.as_str()));
        };
        let statement = pointing_elsewhere(tenants, table, (name, to, columns)).await?;
        match tenants.owner.sql.attempt(&statement).await? {
            Came::Refused(code) if code == SqlState::FOREIGN_KEY_VIOLATION.code() => {
                let tried = format!("{table}: {name} of another tenant's row: refused ({code})");
                evidence.tried("tenant-tables", tried, &statement, &code);
            }
            Came::Refused(code) => {
                return Err(Failure::unproven(format!("the key {name} of {table} could not be tried: {code}")));
            }
            came @ Came::Through { .. } => {
                let obtained =
                    json!({ "table": table, "key": name, "points_at": to, "came": came.words(), "of": tenants.mine });
                return Err(Failure::broken(
                    format!("a row of one tenant's in {table} points at another's in {to}"),
                    obtained,
                ));
            }
        }
    }
    Ok(keys.len())
}

/// A row of the second tenant's whose columns of this key name a row of the first one's.
async fn pointing_elsewhere(
    tenants: &Tenants,
    table: &str,
    (name, to, columns): (&str, &str, &str),
) -> Result<String, Failure> {
    let owner = &tenants.owner;
    let mut loot = Loot::of(tenants, table).await?;
    // A column that others make up would not say what it is told here.
    let generated = owner
        .texts(&format!(
            "select quote_ident(attname) from pg_attribute where attrelid = 'keyholder.{table}'::regclass and attgenerated = 's'"
        ))
        .await?;
    let plain =
        generated.iter().map(|column| format!("alter table keyholder.{table} alter column {column} drop expression"));
    let plain: Vec<_> = plain.collect();
    for column in &generated {
        loot.columns.extend([", ", column]);
    }
    let referenced = owner
        .text(&format!(
            "select string_agg(quote_ident(a.attname), ',' order by array_position(c.confkey, a.attnum)) from pg_constraint c \
             join pg_attribute a on a.attrelid = c.confrelid and a.attnum = any (c.confkey) and a.attname <> 'workspace_id' \
             where c.conrelid = 'keyholder.{table}'::regclass and c.conname = '{name}'"
        ))
        .await?;
    let mut changed = vec![format!("'workspace_id', '{}'::text", tenants.other)];
    for (column, theirs) in columns.split(',').zip(referenced.split(',')) {
        changed.push(format!(
            "'{}', (select to_jsonb(r.{theirs}) from {to} r where r.workspace_id = '{}' limit 1)",
            column.trim_matches('"'),
            tenants.mine
        ));
    }
    // So is the row's own id, unless it is another key's.
    let ids = owner
        .texts(&format!(
            "select a.attname from pg_attribute a join pg_index i on i.indrelid = a.attrelid and i.indisprimary \
               and a.attnum = any (i.indkey) \
             where a.attrelid = 'keyholder.{table}'::regclass and a.atttypid = 'uuid'::regtype and a.attname <> 'workspace_id' \
             and not exists (select from pg_constraint c where c.conrelid = a.attrelid and c.contype = 'f' and a.attnum = any (c.conkey))"
        ))
        .await?;
    changed.extend(ids.iter().map(|column| format!("'{column}', gen_random_uuid()")));
    // What is unique in the whole table is made anew, so that nothing but the key can stop the row.
    let unique = owner
        .texts(&format!(
            "select a.attname from pg_attribute a where a.attrelid = 'keyholder.{table}'::regclass and a.atttypid = 'bytea'::regtype \
             and exists (select from pg_index i where i.indrelid = a.attrelid and i.indisunique and i.indkey::text = a.attnum::text)"
        ))
        .await?;
    changed.extend(
        unique.iter().map(|column| format!("'{column}', '\\x{}'::text", sha256(domain::random::token().as_bytes()))),
    );
    let others = owner
        .texts(&format!(
            "select format('alter table keyholder.{table} drop constraint %I', conname) from pg_constraint \
             where conrelid = 'keyholder.{table}'::regclass and contype in ('f', 'c') and conislocal and conname <> '{name}'"
        ))
        .await?;
    let insert = format!(
        "insert into keyholder.{table} ({}) {}",
        loot.columns,
        loot.source(&format!("jsonb_build_object({})", changed.join(", ")))
    );
    let heads = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id()";
    Ok([vec![heads.to_owned()], plain, others, vec![insert, "set constraints all immediate".to_owned()]]
        .concat()
        .join("; "))
}
