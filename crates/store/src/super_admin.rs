//! Super-admins: persons of the operator's who are named so by a tuple of the installation, and by nothing else.

use domain::id::InstallationId;
use relation::action::{AppointSuperAdmin, ListOperators, ManageOperators};

use crate::{StoreError, installation::Installation, tuple::MOST_OF_INSTALLATION};

/// The relation to the installation that makes one.
const RELATION: &str = "super_admin";
/// How a person is written in tuples.
const PERSON: &str = "operator:";

fn installation() -> String {
    format!("installation:{}", InstallationId::ONE)
}

/// Makes a person super-admin who has a key that is good.
///
/// # Errors
/// `NotFound` where nobody of that name has one; `Conflict` where he is super-admin already, or there are too many; `Unavailable`.
pub async fn appoint(opened: &mut Installation<AppointSuperAdmin>, person: &str) -> Result<(), StoreError> {
    let keys = sqlx::query_scalar!(
        "select count(*) as \"count!\" from operators where name = $1 and revoked_at is null",
        person
    )
    .fetch_one(opened.sql())
    .await?;
    if keys == 0 {
        return Err(StoreError::NotFound);
    }
    let made = sqlx::query!(
        "insert into installation_tuples (object, relation, subject) select $1, $2, $3 \
         where (select count(*) from installation_tuples) < $4 on conflict do nothing",
        installation(),
        RELATION,
        format!("{PERSON}{person}"),
        MOST_OF_INSTALLATION,
    )
    .execute(opened.sql())
    .await?;
    if made.rows_affected() == 0 { Err(StoreError::Conflict) } else { Ok(()) }
}

/// Ends that a person is super-admin. He is refused from the commit on.
///
/// # Errors
/// `NotFound` where he is none; `Unavailable`.
pub async fn dismiss(opened: &mut Installation<AppointSuperAdmin>, person: &str) -> Result<(), StoreError> {
    let ended = sqlx::query!(
        "delete from installation_tuples where object = $1 and relation = $2 and subject = $3",
        installation(),
        RELATION,
        format!("{PERSON}{person}"),
    )
    .execute(opened.sql())
    .await?;
    if ended.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Dismisses whoever has no good key any longer, and says who that was: the next person of that name is another.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn dismiss_keyless(opened: &mut Installation<ManageOperators>) -> Result<Vec<String>, StoreError> {
    let ended = sqlx::query_scalar!(
        "delete from installation_tuples t where t.object = $1 and t.relation = $2 and not exists \
           (select from operators o where t.subject = $3 || o.name and o.revoked_at is null) returning subject",
        installation(),
        RELATION,
        PERSON,
    )
    .fetch_all(opened.sql())
    .await?;
    Ok(ended.iter().filter_map(|subject| subject.strip_prefix(PERSON)).map(str::to_owned).collect())
}

/// Who is super-admin, by name.
///
/// # Errors
/// `Unavailable`.
pub async fn list(opened: &mut Installation<ListOperators>) -> Result<Vec<String>, StoreError> {
    let subjects = sqlx::query_scalar!(
        "select subject from installation_tuples where object = $1 and relation = $2 order by subject",
        installation(),
        RELATION,
    )
    .fetch_all(opened.sql())
    .await?;
    Ok(subjects.iter().filter_map(|subject| subject.strip_prefix(PERSON)).map(str::to_owned).collect())
}
