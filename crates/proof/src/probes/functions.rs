//! Functions that run as the schema's owner: whoever calls one must be who he says, since no policy asks after it.

use serde_json::json;

use super::tenants::{Tenants, contexts};
use crate::{
    database::Session,
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    probe::{Attack, Probe},
    tenancy::{Came, Owner},
};

/// Whether a privileged function does its work for anybody but whom it is for.
pub(super) const DEFINER_FUNCTIONS: Probe = Probe {
    name: "definer-functions",
    points: &["definer-functions"],
    tries: "every SECURITY DEFINER function by every login, without a right to it, and under contexts that are forged, stolen or another tenant's",
    attack: Attack::Rehearsed(|ground| Box::pin(definer_functions(ground))),
};

/// The logins that serve.
const LOGINS: [&str; 4] = ["app", "ledger", "lookup", "loader"];
/// The one that serves tenants, and stands under their contexts.
const OF_TENANTS: &str = "app";

/// A function as the catalogue has it.
struct Function {
    /// With its arguments' types, as a name that SQL takes.
    signature: String,
    name: String,
    arguments: Vec<(String, String)>,
    settings: String,
}

impl Function {
    /// All privileged functions of the schema that can be called: a trigger's cannot.
    async fn all(owner: &Owner) -> Result<Vec<Self>, Failure> {
        let asked = "select p.oid::regprocedure::text, p.oid::regproc::text, coalesce(array_to_string(p.proconfig, '; '), ''), \
              array(select coalesce((p.proargnames)[place], '') from generate_series(1, p.pronargs) place), \
              array(select format_type(t, null) from unnest(p.proargtypes) t) \
            from pg_proc p where p.pronamespace = 'keyholder'::regnamespace and p.prosecdef \
              and p.prorettype <> 'trigger'::regtype order by 1";
        let rows = owner.sql.client.query(asked, &[]).await?;
        let function = |row: &tokio_postgres::Row| {
            let (names, kinds): (Vec<String>, Vec<String>) = (row.get(3), row.get(4));
            Self {
                signature: row.get(0),
                name: row.get(1),
                settings: row.get(2),
                arguments: names.into_iter().zip(kinds).collect(),
            }
        };
        Ok(rows.iter().map(function).collect())
    }

    /// A call that asks for what is the first tenant's, under this context where it takes one itself.
    fn call(&self, tenants: &Tenants, context: &str) -> String {
        let argument = |(name, kind): &(String, String)| match (name.as_str(), kind.as_str()) {
            ("p_context", "text[]") => format!("array['{context}']"),
            ("p_context", "text") => format!("'{context}'"),
            ("wanted", "text") => "'workspace'".to_owned(),
            (name, "uuid[]") if name.contains("mandate") => format!("array['{}']::uuid[]", tenants.mandate),
            ("p_workspace", "uuid[]") => format!("array['{}']::uuid[]", tenants.mine),
            ("p_object", "text[]") => "array['x']".to_owned(),
            (name, "uuid") if name.contains("after") => "null::uuid".to_owned(),
            (_, "uuid") => format!("'{}'::uuid", tenants.mine),
            (_, "integer[]") => "array[1]".to_owned(),
            (_, "bigint" | "integer" | "smallint") => format!("1000::{kind}"),
            (_, "interval") => "interval '0'".to_owned(),
            (_, "boolean") => "false".to_owned(),
            (_, "text") => "'x'".to_owned(),
            (_, kind) => format!("null::{kind}"),
        };
        let arguments: Vec<_> = self.arguments.iter().map(argument).collect();
        format!("select x::text from {}({}) x", self.name, arguments.join(", "))
    }
}

async fn definer_functions(ground: &Ground) -> Outcome {
    let tenants = Tenants::settle(ground, "functions").await?;
    let mut evidence = Evidence::new();
    let functions = Function::all(&tenants.owner).await?;
    let sql = Session::open(ground.login(OF_TENANTS)?).await?;
    its_own_work(&tenants, &sql, &functions, &mut evidence).await?;
    for function in &functions {
        for login in LOGINS {
            let session = Session::open(ground.login(login)?).await?;
            if may_execute(&tenants.owner, &session, function).await? {
                if login == OF_TENANTS {
                    under_every_context(&tenants, &sql, function, &mut evidence).await?;
                }
                continue;
            }
            match session.attempt(&function.call(&tenants, "")).await? {
                Came::Refused(code) if code == "42501" => {
                    let tried = format!("{login}: {}: refused ({code})", function.signature);
                    evidence.tried("definer-functions", tried, &function.signature, &code);
                }
                came => {
                    let obtained = json!({ "login": login, "function": function.signature, "came": came.words() });
                    return Err(Failure::broken(format!("{login} may call {}", function.signature), obtained));
                }
            }
        }
        no_way_around(&tenants.owner, function).await?;
    }
    shadowed(&tenants, &sql, &mut evidence).await?;
    tenants.clear().await?;
    Ok(evidence)
}

/// The allowed thing: under the tenant's own context the function that opens credentials shows one.
async fn its_own_work(
    tenants: &Tenants,
    sql: &Session,
    functions: &[Function],
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let own = tenants.owner.sign("workspace", &tenants.mine, sql.backend().await?, 20_000).await?;
    sql.stand_under(&own).await?;
    let mut worked = 0;
    for function in functions {
        if !may_execute(&tenants.owner, sql, function).await? {
            continue;
        }
        let came = sql.attempt(&function.call(tenants, &own)).await?;
        worked +=
            usize::from(matches!(&came, Came::Through { rows, first: Some(said) } if *rows > 0 && !said.is_empty()));
        evidence.saw(
            format!("{} under its own context: {}", function.signature, came.words()),
            &function.signature,
            came.words(),
        );
    }
    if worked == 0 {
        return Err(Failure::unproven("no function shows a tenant what is his own"));
    }
    Ok(())
}

async fn may_execute(owner: &Owner, session: &Session, function: &Function) -> Result<bool, Failure> {
    let login: String = session.client.query_one("select current_user::text", &[]).await?.get(0);
    let asked = "select has_function_privilege($1::text, $2::text::regprocedure, 'execute')";
    Ok(owner.sql.client.query_one(asked, &[&login, &function.signature]).await?.get(0))
}

/// A function that the tenants' login may call tells nothing of the first tenant under any context but his own.
async fn under_every_context(
    tenants: &Tenants,
    sql: &Session,
    function: &Function,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    for (whose, context) in contexts(tenants, sql, &tenants.owner.sql).await? {
        // The installation's own context is what its functions are for.
        if whose == "the installation's" {
            continue;
        }
        sql.stand_under(&context).await?;
        let statement = function.call(tenants, &context);
        let came = sql.attempt(&statement).await?;
        let told = match &came {
            // A rule of the schema's own (class KH) is a function's way of saying no.
            Came::Refused(code) => !(came.is_nothing() || code.starts_with("KH")),
            // Another tenant may learn what is his own, or nobody's: nothing that names the first one.
            Came::Through { first, .. } => {
                let said = first.as_deref().unwrap_or_default();
                let signed = whose == "another tenant's own" || whose.starts_with("an account's");
                if signed { said.contains(&tenants.mine) } else { !said.trim_matches(['(', ')', ',']).is_empty() }
            }
        };
        if told {
            let obtained = json!({ "function": function.signature, "under": whose, "came": came.words(),
                "told": match &came { Came::Through { first, .. } => first.clone(), Came::Refused(code) => Some(code.clone()) } });
            return Err(Failure::broken(format!("{} answers under {whose}", function.signature), obtained));
        }
        let tried = format!("{} under {whose}: {}", function.signature, came.words());
        evidence.tried("caller-checks", tried, &statement, came.words());
    }
    Ok(())
}

/// Nobody who is nobody may call it, and it looks for tables where nobody can put his own.
async fn no_way_around(owner: &Owner, function: &Function) -> Result<(), Failure> {
    let open =
        format!("select has_function_privilege('public', '{}'::regprocedure, 'execute')::text", function.signature);
    if owner.text(&open).await? != "false" {
        return Err(Failure::broken(
            format!("{} is open to everybody", function.signature),
            function.signature.as_str(),
        ));
    }
    if !function.settings.contains("search_path=keyholder, pg_temp") {
        let obtained = json!({ "function": function.signature, "settings": function.settings });
        return Err(Failure::broken(
            format!("{} takes its names from the caller's path", function.signature),
            obtained,
        ));
    }
    Ok(())
}

/// A table of the attacker's own in the place of the one with the key.
async fn shadowed(tenants: &Tenants, sql: &Session, evidence: &mut Evidence) -> Result<(), Failure> {
    let pid = sql.backend().await?;
    let claim = format!("workspace|{}|99999999999999", tenants.mine);
    let statement = format!(
        "create temp table context_keys (id smallint, inner_pad bytea, outer_pad bytea); \
         insert into pg_temp.context_keys values (1, 'inner', 'outer'); set local search_path = pg_temp, keyholder; \
         select set_config('keyholder.context', '{claim}|' || encode(sha256('outer' || sha256('inner' || convert_to('{claim}|{pid}', 'UTF8'))), 'hex'), true); \
         select workspace_id::text from keyholder.connections"
    );
    sql.stand_under("").await?;
    let came = sql.attempt(&statement).await?;
    if let Came::Through { first: Some(first), .. } = &came
        && first.contains(&tenants.mine)
        && !first.starts_with("workspace|")
    {
        return Err(Failure::broken("a key of the attacker's own signs contexts", first.as_str()));
    }
    evidence.tried("caller-checks", format!("a shadowed table of keys: {}", came.words()), &statement, came.words());
    Ok(())
}
