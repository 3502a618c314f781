//! The versions of the schema: which migrations there are, on which versions this binary runs, and which binaries a migration leaves
//! able to run.
//!
//! A migration is an *expand* step where binaries from before it may go on beside it, and a *contract* step where they may not. Its first
//! line says which: `-- keyholder: compatible-from N` names the oldest schema version whose binaries may run on it. Decides, and never
//! asks: what a database says of itself is handed in.

/// A migration: its version, what it is called, its text.
pub(crate) type Migration = (i64, &'static str, &'static str);

/// Every migration, in order.
pub(crate) const MIGRATIONS: &[Migration] = &[
    (1, "foundation", include_str!("../migrations/0001_foundation.sql")),
    (2, "lookups", include_str!("../migrations/0002_lookups.sql")),
    (3, "ledger", include_str!("../migrations/0003_ledger.sql")),
    (4, "operators", include_str!("../migrations/0004_operators.sql")),
    (5, "key life", include_str!("../migrations/0005_key_life.sql")),
    (6, "provider files", include_str!("../migrations/0006_provider_files.sql")),
    (7, "schema versions", include_str!("../migrations/0007_schema_versions.sql")),
    (8, "operating", include_str!("../migrations/0008_operating.sql")),
    (9, "trust", include_str!("../migrations/0009_trust.sql")),
    (10, "statement program", include_str!("../migrations/0010_statement_program.sql")),
    (11, "installation tuples", include_str!("../migrations/0011_installation_tuples.sql")),
    (12, "relation stores", include_str!("../migrations/0012_fga.sql")),
    (13, "plans", include_str!("../migrations/0013_plans.sql")),
    (14, "objects", include_str!("../migrations/0014_objects.sql")),
    (15, "role template trail", include_str!("../migrations/0015_role_template_trail.sql")),
    (16, "statement failures", include_str!("../migrations/0016_statement_failures.sql")),
    (17, "reads at the head", include_str!("../migrations/0017_reads_at_the_head.sql")),
    (18, "return address removal", include_str!("../migrations/0018_return_address_removal.sql")),
];

/// The oldest schema that this binary runs on: the first that has all that its statements name.
pub const OLDEST: i64 = 18;

/// The first migration that says who may run beside it, and that has a place where this is kept. No binary from before it would ask.
const FIRST_TO_SAY: i64 = 7;

/// The first schema on which nodes state the version that they know.
pub(crate) const NODES_STATE_THEIRS: i64 = 8;

/// How a migration's first line begins.
const HEADER: &str = "-- keyholder: compatible-from ";

/// The version of the newest migration in this binary.
pub fn newest() -> i64 {
    MIGRATIONS.iter().map(|(version, _, _)| *version).max().unwrap_or(0)
}

/// The oldest schema version whose binaries may run beside a migration: what its first line says, else its own version.
pub(crate) fn compatible_from((version, _, text): &Migration) -> i64 {
    let said = text.lines().next().and_then(|line| line.strip_prefix(HEADER));
    said.and_then(|number| number.trim().parse().ok()).unwrap_or(*version)
}

/// The oldest schema version whose binaries may run on this binary's schema.
pub fn lets_run_from() -> i64 {
    MIGRATIONS.iter().map(compatible_from).max().unwrap_or(0)
}

/// The statement that keeps a migration's word in the schema. It is part of the migration, and so of its transaction.
pub(crate) fn kept_word(migration: &Migration) -> Option<String> {
    let (version, from) = (migration.0, compatible_from(migration));
    (version >= FIRST_TO_SAY)
        .then(|| format!("\ninsert into schema_versions (version, compatible_from) values ({version}, {from});\n"))
}

/// The schema versions that a binary knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The oldest that it runs on.
    pub(crate) oldest: i64,
    /// The newest that it was made for.
    pub(crate) newest: i64,
}

impl Accepted {
    /// What this binary accepts.
    pub(crate) fn here() -> Self {
        Self { oldest: OLDEST, newest: newest() }
    }

    /// Why a binary does not run on a schema of this version, which says that binaries of at least `compatible_from` may.
    pub(crate) fn fault(self, found: i64, compatible_from: i64) -> Option<String> {
        let Self { oldest, newest } = self;
        if found < oldest {
            let wanted = if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") };
            return Some(format!(
                "the schema has version {found}, this binary wants {wanted}: run `keyholder migrate`"
            ));
        }
        (found > newest && compatible_from > newest).then(|| {
            format!(
                "the schema has version {found}, this binary is of {newest}: this binary is too old for it: the schema wants \
                 binaries of at least {compatible_from}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_runs_on_what_it_knows_and_on_newer_schemas_that_let_it() {
        let table = [
            // (oldest, newest) of the binary; the schema's version and its word; what the refusal says.
            ((7, 9), (7, 7), None),
            ((7, 9), (9, 9), None),
            ((7, 9), (8, 7), None),
            ((7, 9), (6, 6), Some("wants 7 to 9: run `keyholder migrate`")),
            ((9, 9), (8, 7), Some("wants 9: run `keyholder migrate`")),
            ((7, 9), (12, 9), None),
            ((7, 9), (12, 7), None),
            ((7, 9), (12, 10), Some("too old for it: the schema wants binaries of at least 10")),
            ((7, 9), (10, 10), Some("too old for it")),
        ];
        for ((oldest, newest), (found, from), said) in table {
            let fault = Accepted { oldest, newest }.fault(found, from);
            match said {
                None => assert_eq!(fault, None, "{oldest}..{newest} on {found}"),
                Some(said) => assert!(fault.as_ref().is_some_and(|fault| fault.contains(said)), "{said}: {fault:?}"),
            }
        }
    }

    #[test]
    fn every_migration_says_who_may_run_beside_it_and_never_less_than_the_one_before() {
        let mut floor = 0;
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            let (version, name, text) = migration;
            assert_eq!(usize::try_from(*version).unwrap(), index + 1, "{name}");
            assert_eq!(text.starts_with(HEADER), *version >= FIRST_TO_SAY, "{name}");
            let from = compatible_from(migration);
            assert!(floor <= from && from <= *version, "{name}");
            floor = from;
        }
        assert!((1..=newest()).contains(&OLDEST));
    }
}
