//! Bare durable inserts: what the database itself takes for one row that is on the disk when it answers.

use keyholder::home::Home;
use sqlx::{Connection, PgConnection};

use super::{grounds::Outcome, load::Exchange};

/// The database that the rows go to, on the cluster of the acts.
const DATABASE: &str = "bare_inserts";
/// As long as an act's row is.
const ROW: [u8; 200] = [b'x'; 200];

/// One connection that inserts.
pub(crate) struct Insert(PgConnection);

/// Makes the table.
pub(crate) async fn prepare(home: &Home) -> Outcome<()> {
    home.create_database(DATABASE, None).await?;
    let mut sql = PgConnection::connect(&home.owner_url(DATABASE)).await?;
    let table = "create table inserts (id bigint generated always as identity primary key, body bytea not null)";
    sqlx::query(table).execute(&mut sql).await?;
    Ok(sql.close().await?)
}

/// Opens so many connections.
pub(crate) async fn open(home: &Home, connections: usize) -> Outcome<Vec<Insert>> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Insert(PgConnection::connect(&home.owner_url(DATABASE)).await?));
    }
    Ok(opened)
}

impl Exchange for Insert {
    async fn once(&mut self) -> Outcome<()> {
        let insert = sqlx::query("insert into inserts (body) values ($1)").bind(&ROW[..]);
        insert.execute(&mut self.0).await?;
        Ok(())
    }
}
