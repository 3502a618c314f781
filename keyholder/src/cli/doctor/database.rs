//! The database as a serving process meets it: the way to it, its logins, its settings, its tables, its hour.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use domain::{clock::Clock, id::NodeId, provider::Provider};
use seal::Purpose;
use service::provider_migration::{self, Standing};
use store::{
    Address, ContextKey, Store, StoreError, StoreOptions, Urls, Way,
    gate::{self, Expectation, Subject},
    login::LoginAge,
    trust::{LookError, Validity},
};
use time::Duration;

use super::{super::failure::Chain, Check, files};
use crate::{config::Config, instance::template_key};

/// More than this no two clocks that a time server sets are apart.
const APART: Duration = Duration::seconds(5);
/// What the way to the database is called.
const TRANSPORT: &str = "database transport";

/// Everything that can be told of the database.
pub(super) async fn check(config: &Config, urls: Urls, clock: Clock) -> Vec<Check> {
    let mut checks = of_way(&urls, &clock).await;
    if checks.iter().any(|check| check.name == TRANSPORT && !check.ok) {
        // Nothing more can be asked of a server to which no login is sent.
        return checks;
    }
    let store = Store::open(StoreOptions {
        urls,
        context_key: ContextKey::new(*config.root_key.derive(Purpose::Context, config.environment).as_bytes()),
        node: NodeId::new(&clock),
        clock,
        connections: 1,
        model: relation::permission::own(),
        template_key: template_key(&config.root_key, config.environment),
        plans: Arc::default(),
    });
    #[cfg(feature = "sabotage")]
    if let Err(error) = crate::sabotage::confine(&store, &[]).await {
        checks.push(Check::fault("build", error.to_string(), "use a build without the feature `sabotage`"));
        store.close().await;
        return checks;
    }
    let expected = Expectation {
        installation: &config.installation,
        environment: config.environment,
        root_check: config.root_key.check_value(config.environment),
    };
    match gate::examine(&store, &expected).await {
        Ok(faults) => {
            checks.extend(of_gate(&faults));
            if !faults.iter().any(|(subject, _)| *subject == Subject::Transport) {
                checks.push(of_clock(gate::clock_offset(&store).await));
                checks.push(of_size(gate::database_bytes(&store).await));
            }
            if faults.is_empty() {
                checks.extend(of_logins(config, &store).await);
                checks.extend(of_provider_files(config, &store).await);
                checks.push(of_role_templates(&store).await);
            }
        }
        Err(error) => checks.push(unanswered(&error)),
    }
    store.close().await;
    checks
}

/// How the logins travel, and how long the certificates of their servers still hold.
async fn of_way(urls: &Urls, clock: &Clock) -> Vec<Check> {
    let mut servers: BTreeMap<String, &Address> = BTreeMap::new();
    for address in [&urls.app, &urls.ledger, &urls.lookup, &urls.loader] {
        servers.entry(address.host()).or_insert(address);
    }
    let mut checks = Vec::new();
    for (host, address) in servers {
        match address.way() {
            Way::Socket => checks.push(Check::ok(TRANSPORT, format!("the Unix socket in {host}"))),
            Way::Loopback => checks.push(Check::ok(
                TRANSPORT,
                format!("{host}, in the clear on this machine, as database.loopback_plaintext allows"),
            )),
            Way::Tls => checks.extend(of_server(&host, address, clock).await),
        }
    }
    checks
}

async fn of_server(host: &str, address: &Address, clock: &Clock) -> Vec<Check> {
    let remedy =
        "docs/guides/deployment.md tells how PostgreSQL gets a certificate, and database.tls_roots its authority";
    match address.server_certificate().await {
        Ok(shown) => {
            let detail = format!("{host}, over TLS; certificate and name are checked");
            let certificate = shown.map(|Validity { from, until }| {
                let remedy = "give PostgreSQL a new certificate, and reload it";
                files::of_certificate("database certificate", from, until, clock.now(), remedy)
            });
            [Check::ok(TRANSPORT, detail)].into_iter().chain(certificate).collect()
        }
        Err(LookError::Distrust(why)) => {
            vec![Check::fault(TRANSPORT, format!("{host}: {why}"), remedy)]
        }
        // That nobody answers is told once, with the database.
        Err(LookError::Unreachable(_)) => Vec::new(),
    }
}

/// What the start-up gate found, a line for each thing that it looks at. What it did not get to is not called well.
fn of_gate(faults: &[(Subject, String)]) -> Vec<Check> {
    let transport = faults.iter().any(|(subject, _)| *subject == Subject::Transport);
    let early = faults.iter().any(|(subject, _)| !matches!(subject, Subject::Tables | Subject::Installation));
    let mut checks = Vec::new();
    for subject in Subject::ALL {
        let (name, well, remedy) = words(subject);
        let found = faults.iter().filter(|(found, _)| *found == subject);
        let before = checks.len();
        checks.extend(found.map(|(_, fault)| Check::fault(name, fault.clone(), remedy)));
        let reached = match subject {
            // Said already, where the way is.
            Subject::Transport => false,
            Subject::Login | Subject::Server => !transport,
            Subject::Tables | Subject::Installation => !early,
        };
        if checks.len() == before && reached {
            checks.push(Check::ok(name, well));
        }
    }
    checks
}

/// What a check is called, what is said where all is well, and what to do where it is not.
fn words(subject: Subject) -> (&'static str, &'static str, &'static str) {
    match subject {
        Subject::Transport => (
            TRANSPORT,
            "",
            "have whatever stands between (a pooler, a tunnel) speak TLS to PostgreSQL, and let pg_hba.conf take hostssl alone",
        ),
        Subject::Login => (
            "roles",
            "each of the four logins can do its own work and no other",
            "docs/guides/configuration.md tells what each login must be; `keyholder migrate --logins DIR` makes them",
        ),
        Subject::Server => (
            "durability",
            "fsync, synchronous_commit and full_page_writes are on",
            "switch it on in postgresql.conf (and for the role: ALTER ROLE … RESET ALL), and reload PostgreSQL",
        ),
        Subject::Tables => (
            "tables",
            "every table is under forced row-level security",
            "somebody has changed the schema by hand: ALTER TABLE keyholder.… ENABLE and FORCE ROW LEVEL SECURITY, and find out who",
        ),
        Subject::Installation => (
            "schema",
            "its version is this binary's, and root key and environment are its own",
            "root key, environment, database and binary must be of one installation; `keyholder migrate` brings an older schema up to this binary",
        ),
    }
}

fn of_clock(offset: Result<Duration, StoreError>) -> Check {
    match offset {
        Ok(offset) => apart(offset),
        Err(error) => unanswered(&error),
    }
}

fn apart(offset: Duration) -> Check {
    let (seconds, side) = (offset.abs().as_seconds_f64(), if offset.is_negative() { "behind" } else { "ahead" });
    let detail = format!("the database's is {seconds:.3} s {side}");
    if offset.abs() > APART {
        Check::fault("clock", detail, "have one time server set both machines (timedatectl, chronyc tracking)")
    } else {
        Check::ok("clock", detail)
    }
}

fn of_size(bytes: Result<i64, StoreError>) -> Check {
    match bytes {
        Ok(bytes) => Check::ok(
            "database size",
            format!("{} MiB; what its disk has left is for its own machine to say", bytes / (1024 * 1024)),
        ),
        Err(error) => unanswered(&error),
    }
}

/// Whether the logins are due for their rotation.
async fn of_logins(config: &Config, store: &Store) -> Vec<Check> {
    let ages = match store.login_ages().await {
        Ok(ages) => ages,
        Err(error) => return vec![unanswered(&error)],
    };
    let now = Clock::system().now();
    let check = |login: &LoginAge| match login.days(now) {
        Some(days) if login.is_overdue(now, config.login_days) => Check::fault(
            "login",
            format!("`{}` is {days} days old, and is to be rotated after {}", login.name, config.login_days),
            "keyholder migrate --rotate-logins DIR begins a rotation; docs/runbooks/database-logins.md",
        ),
        Some(days) => Check::ok("login", format!("`{}` is {days} days old", login.name)),
        None => Check::ok("login", format!("`{}` was made by hand; its age is not known", login.name)),
    };
    ages.iter().map(check).collect()
}

/// Whether the files of the providers in use are the approved ones.
async fn of_provider_files(config: &Config, store: &Store) -> Vec<Check> {
    let approved = match store.approved_provider_files().await {
        Ok(approved) => approved,
        Err(error) => return vec![unanswered(&error)],
    };
    let remedy = "keyholder provider migrate NAME shows the difference and asks; docs/runbooks/provider-migrate.md";
    let check = |provider: &Provider| match provider_migration::standing(&approved, provider) {
        Standing::Approved => Check::ok("provider file", format!("`{}` is the approved one", provider.name)),
        Standing::New => Check::ok("provider file", format!("`{}` will be approved at its first use", provider.name)),
        Standing::Resealing => {
            Check::fault("provider file", format!("`{}`: a migration was interrupted", provider.name), remedy)
        }
        Standing::Changed(changes) => {
            let terms: Vec<_> = changes.iter().map(|change| change.term.as_str()).collect();
            let detail = format!("`{}` has other {} than the approved one", provider.name, terms.join(", "));
            Check::fault("provider file", detail, remedy)
        }
    };
    config.clients.keys().filter_map(|name| config.catalogue.get(name)).map(|provider| check(provider)).collect()
}

/// Whether the role templates are those that Keyholder wrote.
async fn of_role_templates(store: &Store) -> Check {
    let drifted = match store.drifted_role_templates().await {
        Ok(drifted) => drifted,
        Err(error) => return unanswered(&error),
    };
    if drifted.is_empty() {
        return Check::ok("role templates", "all are as they were written");
    }
    let named = drifted
        .iter()
        .take(10)
        .map(|(stored, drift)| format!("`{}` of `{}` ({})", stored.id, stored.workspace, drift.as_str()));
    let named: Vec<_> = named.collect();
    let detail = format!("{} rewritten outside of Keyholder, granting nothing: {}", drifted.len(), named.join(", "));
    Check::fault("role templates", detail, "find out who writes to the database; docs/runbooks/role-templates.md")
}

fn unanswered(error: &StoreError) -> Check {
    let remedy = match error {
        StoreError::Unavailable(_) => "start PostgreSQL, or mend host and port in KEYHOLDER_DATABASE_…_URL",
        _ => "mend user, password or database in KEYHOLDER_DATABASE_…_URL",
    };
    let error: &dyn Error = error;
    Check::fault("database", Chain(error).to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_more_than_five_seconds_apart_are_a_fault() {
        for (milliseconds, ok, word) in [
            (0, true, "ahead"),
            (5_000, true, "ahead"),
            (5_001, false, "5.001 s ahead"),
            (-6_000, false, "6.000 s behind"),
        ] {
            let found = apart(Duration::milliseconds(milliseconds));
            assert!(found.ok == ok && found.detail.contains(word), "{found:?}");
        }
    }

    #[test]
    fn each_fault_of_the_gate_has_its_remedy_and_what_was_not_looked_at_is_not_called_well() {
        let names = |faults: &[(Subject, String)]| {
            of_gate(faults).iter().map(|check| (check.name, check.ok)).collect::<Vec<_>>()
        };
        let all = [("roles", true), ("durability", true), ("tables", true), ("schema", true)];
        assert_eq!(names(&[]), all);
        let fault = |subject| (subject, "fault".to_owned());
        assert_eq!(names(&[fault(Subject::Transport)]), [("database transport", false)]);
        assert_eq!(names(&[fault(Subject::Login)]), [("roles", false), ("durability", true)]);
        let two = names(&[fault(Subject::Tables), fault(Subject::Installation)]);
        assert_eq!(two, [("roles", true), ("durability", true), ("tables", false), ("schema", false)]);
        assert!(of_gate(&[fault(Subject::Server)]).iter().all(|check| check.ok != check.remedy.is_some()));
    }
}
