//! Tenancy as the database has it: tables and functions as the catalogue knows them, and contexts as whoever holds a login can try them.
//!
//! What is signed here is signed by the database's owner, who alone can read the key: a probe gets an honest context that way, and forges
//! all others.

use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use crate::{database::Session, evidence::Failure};

/// A tenant's rows and its id, by the hand of the database's owner.
pub struct Owner {
    /// The owner's session.
    pub sql: Session,
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It was refused, by the database's state code.
    Refused(String),
    /// It went through: the rows that were touched or shown, and the first column of the first of them.
    Through {
        /// How many.
        rows: u64,
        /// The first one shown.
        first: Option<String>,
    },
}

impl Came {
    /// Whether nothing was touched or shown.
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Refused(code) => is_refusal(code),
            Self::Through { rows, first } => *rows == 0 && first.is_none(),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Refused(code) => format!("refused ({code})"),
            Self::Through { rows, .. } => format!("{rows} rows"),
        }
    }
}

/// Whether the code says that something was not permitted: a privilege or a policy (42501), or a policy that would have to be circumvented
/// (0A000). A rule of the schema's own (class KH) is no wall between tenants: its trigger fires before a policy checks the row.
pub fn is_refusal(code: &str) -> bool {
    code == SqlState::INSUFFICIENT_PRIVILEGE.code() || code == SqlState::FEATURE_NOT_SUPPORTED.code()
}

impl Owner {
    /// Logs in.
    ///
    /// # Errors
    /// Where the login is refused.
    pub async fn open(url: &str) -> Result<Self, Failure> {
        Ok(Self { sql: Session::open(url).await? })
    }

    /// Texts of one column.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn texts(&self, statement: &str) -> Result<Vec<String>, Failure> {
        let rows = self.sql.client.query(statement, &[]).await?;
        Ok(rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect())
    }

    /// One text; empty where there is no row.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn text(&self, statement: &str) -> Result<String, Failure> {
        Ok(self.texts(statement).await?.into_iter().next().unwrap_or_default())
    }

    /// The id that the database has of the newest workspace of a name.
    ///
    /// # Errors
    /// `Unproven` where there is none.
    pub async fn workspace(&self, name: &str) -> Result<String, Failure> {
        let asked =
            "select workspace_id::text from keyholder.workspaces where name = $1 order by created_at desc limit 1";
        let row = self.sql.client.query_opt(asked, &[&name]).await?;
        row.map(|row| row.get(0)).ok_or_else(|| Failure::unproven(format!("no workspace {name} is in the database")))
    }

    /// The tables whose rows belong to a workspace, as the catalogue has them at this moment.
    ///
    /// # Errors
    /// Where the catalogue cannot be read, or has none.
    pub async fn tenant_tables(&self) -> Result<Vec<String>, Failure> {
        let asked = "select quote_ident(c.relname) from pg_class c join pg_attribute a on a.attrelid = c.oid \
                     where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') \
                       and a.attname = 'workspace_id' and not a.attisdropped order by 1";
        let tables = self.texts(asked).await?;
        if tables.is_empty() { Err(Failure::unproven("the schema has no tenant table")) } else { Ok(tables) }
    }

    /// A context for one backend, good for so many milliseconds.
    ///
    /// # Errors
    /// Where the key cannot be read.
    pub async fn sign(&self, kind: &str, subject: &str, backend: i32, life_ms: i64) -> Result<String, Failure> {
        let claim = "select $1 || '|' || $2 || '|' || ((extract(epoch from clock_timestamp()) * 1000)::bigint + $3::bigint)::text as claim";
        let signed = format!(
            "select c.claim || '|' || encode(sha256(k.outer_pad || sha256(k.inner_pad || \
               convert_to(c.claim || '|' || $4::text, 'UTF8'))), 'hex') \
             from ({claim}) c, keyholder.context_keys k order by k.id limit 1"
        );
        let row = self.sql.client.query_one(&signed, &[&kind, &subject, &life_ms, &backend.to_string()]).await?;
        Ok(row.get(0))
    }

    /// Everything that the database holds of a workspace, as one digest a table.
    ///
    /// # Errors
    /// Where a table cannot be read.
    pub async fn state_of(&self, workspace: &str) -> Result<Vec<(String, String)>, Failure> {
        let mut state = Vec::new();
        for table in self.tenant_tables().await? {
            let asked = format!(
                "select count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '') \
                 from keyholder.{table} t where workspace_id = '{workspace}'"
            );
            state.push((table, self.text(&asked).await?));
        }
        Ok(state)
    }

    /// Sees to it that a tenant has a row in this table: one that use has left, else one that is put there past triggers and keys.
    ///
    /// # Errors
    /// `Unproven` where none can be put there: then the table would go untried.
    pub async fn plant(&self, table: &str, workspace: &str) -> Result<(), Failure> {
        let there = format!("select count(*)::text from keyholder.{table} where workspace_id = '{workspace}'");
        if self.text(&there).await? != "0" {
            return Ok(());
        }
        let columns = self.sql.client.query(NEEDED_COLUMNS, &[&table.trim_matches('"')]).await?;
        let (mut names, mut values) = (vec!["workspace_id".to_owned()], vec![format!("'{workspace}'")]);
        for column in &columns {
            names.push(column.get(0));
            values.push(fitting(column.get(1), column.get(2)));
        }
        let put = format!(
            "begin; set local session_replication_role = replica; \
             insert into keyholder.{table} ({}) values ({}); commit",
            names.join(", "),
            values.join(", ")
        );
        if let Err(error) = self.sql.client.batch_execute(&put).await {
            self.sql.client.batch_execute("rollback").await?;
            let why = error.as_db_error().map(ToString::to_string).unwrap_or_default();
            return Err(Failure::unproven(format!("no row can be put into {table}: {why}")));
        }
        Ok(())
    }
}

/// The columns that a row cannot do without, each with its type and the constraints that name it.
const NEEDED_COLUMNS: &str = "select quote_ident(a.attname), format_type(a.atttypid, null), \
    coalesce((select string_agg(pg_get_constraintdef(c.oid), ' ') from pg_constraint c \
      where c.conrelid = a.attrelid and c.contype = 'c' and a.attnum = any (c.conkey)), '') \
  from pg_attribute a where a.attrelid = ('keyholder.' || quote_ident($1))::regclass and a.attnum > 0 and not a.attisdropped \
    and a.attnotnull and not a.atthasdef and a.attname <> 'workspace_id'";

/// A value of a type that its constraints let pass: the first that they name, else one of a usual size.
fn fitting(kind: &str, constraints: &str) -> String {
    // A list of words, or one; a pattern or another function's argument is none of them.
    let of_list = constraints.split("ARRAY['").nth(1).or_else(|| constraints.split("= '").nth(1));
    if let Some(named) = of_list.and_then(|rest| rest.split('\'').next()).filter(|_| kind == "text") {
        return format!("'{named}'");
    }
    match kind {
        "uuid" => "gen_random_uuid()".to_owned(),
        "bytea" => "sha256(gen_random_uuid()::text::bytea)".to_owned(),
        "text" => "'planted-by-a-probe'".to_owned(),
        "boolean" => "false".to_owned(),
        "jsonb" | "json" => "'{}'".to_owned(),
        "timestamp with time zone" => "clock_timestamp()".to_owned(),
        array if array.ends_with("[]") => "'{}'".to_owned(),
        _ => "1".to_owned(),
    }
}

impl Session {
    /// The process at the server's end.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn backend(&self) -> Result<i32, Failure> {
        Ok(self.client.query_one("select pg_backend_pid()", &[]).await?.get(0))
    }

    /// Stands under a context, whatever it is worth.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn stand_under(&self, context: &str) -> Result<(), Failure> {
        self.client.execute("select set_config('keyholder.context', $1, false)", &[&context]).await?;
        Ok(())
    }

    /// Tries one statement in a transaction that leaves nothing.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub async fn attempt(&self, statement: &str) -> Result<Came, Failure> {
        self.client.batch_execute("begin").await?;
        let came = self.run(statement).await;
        self.client.batch_execute("rollback").await?;
        came
    }

    /// Tries one statement, for good.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub async fn run(&self, statement: &str) -> Result<Came, Failure> {
        let said = match self.client.simple_query(statement).await {
            Ok(said) => said,
            Err(error) => {
                let code = error.code().map(|code| code.code().to_owned());
                return code.map(Came::Refused).ok_or_else(|| error.into());
            }
        };
        let (mut rows, mut first) = (0, None);
        for message in said {
            match message {
                SimpleQueryMessage::Row(row) => {
                    first = first.or_else(|| Some(row.get(0).unwrap_or_default().to_owned()));
                }
                SimpleQueryMessage::CommandComplete(count) => rows += count,
                _ => {}
            }
        }
        Ok(Came::Through { rows, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_fits_its_column() {
        let roles = "CHECK ((role = ANY (ARRAY['admin'::text, 'service'::text])))";
        assert_eq!(fitting("text", roles), "'admin'");
        let others = "CHECK ((is_userset = (strpos(subject, '#'::text) > 0))) CHECK ((type ~ '^[a-z]$'::text))";
        assert_eq!(fitting("text", others), "'planted-by-a-probe'");
        assert_eq!(fitting("text", "CHECK ((kind = 'workspace'::text))"), "'workspace'");
        assert_eq!(fitting("bytea", "CHECK ((octet_length(hash) = 32))"), "sha256(gen_random_uuid()::text::bytea)");
        assert_eq!(fitting("uuid[]", ""), "'{}'");
        assert_eq!(fitting("bigint", "CHECK ((cap >= 0))"), "1");
    }

    #[test]
    fn what_touches_nothing_is_told_from_what_fails_for_another_reason() {
        assert!(Came::Refused("42501".to_owned()).is_nothing());
        assert!(!Came::Refused("KH001".to_owned()).is_nothing());
        assert!(Came::Through { rows: 0, first: None }.is_nothing());
        // A row that only its key turned away had passed the policy.
        assert!(!Came::Refused("23505".to_owned()).is_nothing());
        assert!(!Came::Through { rows: 1, first: None }.is_nothing());
    }
}
