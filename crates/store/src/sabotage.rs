//! The points of sabotage that lie in the database: what its owner runs to switch one control off there.
//!
//! Only in a build with the feature `sabotage`, and only on the embedded cluster of a rehearsal.

use domain::{
    id::{AuditId, Id, RelationModelId, RelationStoreId},
    sabotage::Point,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{Address, Store, StoreError, audit::Entry, fga::Standing};

/// What the owner runs in a rehearsal's database for a point; nothing for a point that lies in the program.
fn statements(point: Point) -> &'static str {
    match point {
        Point::RowLevelSecurity => {
            "do $$ declare name text; begin \
               for name in select format('%I on %I.%I', polname, nspname, relname) from pg_policy \
                 join pg_class on pg_class.oid = polrelid join pg_namespace on pg_namespace.oid = relnamespace \
                 where nspname = 'keyholder' and polname = 'tenant' \
               loop execute 'alter policy ' || name || ' using (true) with check (true)'; end loop; end $$"
        }
        // A row can be written for anybody, and moved to anybody.
        Point::IsolationBattery => {
            "do $$ declare name text; begin \
               for name in select format('%I on %I.%I', polname, nspname, relname) from pg_policy \
                 join pg_class on pg_class.oid = polrelid join pg_namespace on pg_namespace.oid = relnamespace \
                 where nspname = 'keyholder' and polname = 'tenant' \
               loop execute 'alter policy ' || name || ' with check (true)'; end loop; end $$"
        }
        // Whoever names a tenant is believed.
        Point::DefinerFunctions => {
            "create or replace function keyholder.context_subject(wanted text) returns uuid \
             language sql stable security definer set search_path = keyholder, pg_temp as $$ \
               select case when x.part[1] = wanted then nullif(x.part[2], '')::uuid end \
               from string_to_array(coalesce(current_setting('keyholder.context', true), ''), '|') x(part) $$"
        }
        // The login that reads facts reads credentials, too.
        Point::LeastPrivilegeRoles => {
            "do $$ declare name text; begin \
               select grantee into name from information_schema.role_table_grants \
                 where table_schema = 'keyholder' and table_name = 'tuples' and grantee like '%\\_loader'; \
               execute format('grant select on keyholder.credentials to %I', name); end $$"
        }
        // Nothing holds a row to what it belongs to.
        Point::TenantKeys => {
            "do $$ declare name text; begin \
               for name in select format('%s drop constraint %I', conrelid::regclass, conname) from pg_constraint \
                 where contype = 'f' and confrelid <> 'keyholder.workspaces'::regclass and conrelid in \
                   ('keyholder.objects'::regclass, 'keyholder.relationships'::regclass, 'keyholder.role_assignments'::regclass) \
               loop execute 'alter table ' || name; end loop; end $$"
        }
        // What stood in a relation to an object outlives it.
        Point::ObjectCascade => {
            "do $$ declare name text; begin \
               for name in select conname from pg_constraint \
                 where contype = 'f' and conrelid = 'keyholder.relationships'::regclass and confrelid = 'keyholder.objects'::regclass \
               loop execute format('alter table keyholder.relationships drop constraint %I', name); end loop; end $$"
        }
        // Whoever is given a key of the operator's is super-admin with it.
        Point::SuperAdmins => {
            "create function keyholder.appoint_everybody() returns trigger language plpgsql security definer \
               set search_path = keyholder, pg_temp as $$ begin \
                 insert into installation_tuples values ('installation:ins_00000000000000000000000000', 'super_admin', 'operator:' || new.name) \
                   on conflict do nothing; \
                 return new; end $$; \
             create trigger appointed after insert on keyholder.operators for each row execute function keyholder.appoint_everybody()"
        }
        // A relation store is anybody's who names it: with this goes the question that forgets whose it is.
        Point::RelationStores => {
            "do $$ declare name text; begin \
               for name in select format('%I on %I.%I', polname, nspname, relname) from pg_policy \
                 join pg_class on pg_class.oid = polrelid join pg_namespace on pg_namespace.oid = relnamespace \
                 where nspname = 'keyholder' and polname = 'tenant' and relname in ('fga_stores', 'fga_models') \
               loop execute 'alter policy ' || name || ' using (true)'; end loop; end $$"
        }
        // An act is admitted by whatever permit it was given once.
        Point::StaleAdmissions => {
            "do $$ begin execute replace(pg_get_functiondef('keyholder.ledger_admit'::regproc), \
               'h_revision[k] <> a_revision[i]', 'false'); end $$"
        }
        // A statement is taken whatever its number.
        Point::StatementNumbers => "drop trigger rising_sequence on keyholder.trust_statements",
        // Work of any kind is taken up.
        Point::GuardedJobs => {
            "create or replace function keyholder.lookup_claim_jobs(p_kinds text[], p_lease interval, p_most integer) \
             returns table (workspace_id uuid, id uuid, kind text, subject uuid, attempts integer) \
             language sql volatile security definer set search_path = keyholder, pg_temp as $$ \
               update jobs j set run_at = clock_timestamp() + p_lease, attempts = j.attempts + 1 \
                 from (select d.workspace_id, d.id from jobs d where d.run_at <= clock_timestamp() \
                       order by d.run_at limit least(p_most, 100) for update skip locked) due \
                 where j.workspace_id = due.workspace_id and j.id = due.id \
                 returning j.workspace_id, j.id, j.kind, j.subject, j.attempts $$"
        }
        _ => "",
    }
}

/// The newest entries of all trails: what a query without its workspace would read.
pub(crate) async fn everybodys_entries(sql: &mut PgConnection, most: i64) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query(
        "select id, at, principal, means, request, event, object, detail from audit order by id desc limit $1",
    );
    let entry = |row: &PgRow| {
        Ok(Entry {
            id: AuditId::from_uuid(row.try_get("id")?),
            at: row.try_get("at")?,
            principal: row.try_get("principal")?,
            means: row.try_get("means")?,
            request: row.try_get("request")?,
            event: row.try_get("event")?,
            object: row.try_get("object")?,
            detail: row.try_get("detail")?,
            is_probe: false,
        })
    };
    rows.bind(most).fetch_all(sql).await?.iter().map(entry).collect()
}

/// Where a relation store stands, whosever it is: what a question without its workspace would be answered.
pub(crate) async fn anybodys_standing(
    epoch: i64,
    sql: &mut PgConnection,
    id: RelationStoreId,
) -> Result<Standing, StoreError> {
    let row = sqlx::query(
        "select s.revision, s.tuples, (select m.id from fga_models m where m.store_id = $1 order by m.number desc limit 1) as newest \
         from fga_stores s where s.id = $1 and s.deleted_at is null",
    );
    let row = row.bind(id.uuid()).fetch_one(sql).await?;
    let newest: Option<Uuid> = row.try_get("newest")?;
    Ok(Standing {
        at: (epoch, row.try_get("revision")?),
        tuples: row.try_get("tuples")?,
        newest: newest.map(RelationModelId::from_uuid),
    })
}

/// Switches a control off in this database, if it is one that lies there.
///
/// # Errors
/// Where the database refuses.
pub async fn apply(owner: &Address, point: Point) -> Result<(), StoreError> {
    let statements = statements(point);
    if !statements.is_empty() {
        let mut connection = PgConnection::connect_with(&owner.0).await?;
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await?;
        connection.close().await?;
    }
    Ok(())
}

const IS_EMBEDDED: &str = "select current_setting('cluster_name') = 'keyholder' and current_setting('listen_addresses') = '' \
                           and inet_server_addr() is null";

/// Whether the database to which this login leads is the embedded cluster.
///
/// # Errors
/// `Unavailable` where it does not answer.
pub async fn is_embedded_at(owner: &Address) -> Result<bool, StoreError> {
    let mut connection = PgConnection::connect_with(&owner.0).await?;
    let is_embedded = sqlx::query_scalar::<_, Option<bool>>(IS_EMBEDDED).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(is_embedded.unwrap_or(false))
}

/// Whether a store's database is the embedded cluster, which listens on a Unix socket alone and has its name from Keyholder.
///
/// # Errors
/// `Unavailable` where the database does not answer.
pub async fn is_embedded(store: &Store) -> Result<bool, StoreError> {
    for (_, pool) in store.pools() {
        if !sqlx::query_scalar::<_, Option<bool>>(IS_EMBEDDED).fetch_one(pool).await?.unwrap_or(false) {
            return Ok(false);
        }
    }
    Ok(true)
}
