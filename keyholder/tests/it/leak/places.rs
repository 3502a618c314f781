//! Where a secret may have got to: everything that was answered, written, counted or stored.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::PoisonError,
};

use keyholder::{caller::Caller, telemetry::Capture};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::search::Seeker;
use crate::harness::{TestApp, ok, text};

/// How many pieces of each kind were looked at, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) looked: Vec<(&'static str, usize)>,
    pub(crate) found: Vec<String>,
}

impl Sweep {
    pub(crate) fn look<T: AsRef<[u8]>>(
        &mut self,
        place: &'static str,
        seeker: &Seeker,
        pieces: impl IntoIterator<Item = T>,
    ) {
        let mut count = 0;
        let (mut seen, mut found) = (HashSet::new(), BTreeSet::new());
        for piece in pieces {
            count += 1;
            if !seen.insert(piece.as_ref().to_vec()) {
                continue;
            }
            found.extend(seeker.find(piece.as_ref()).into_iter().map(|name| format!("{name} in {place}")));
        }
        self.found.extend(found);
        self.looked.push((place, count));
    }

    /// Nothing was found, and there was something to look at everywhere.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.found, [""; 0], "{:?}", self.looked);
        let empty: Vec<_> = self.looked.iter().filter(|(_, count)| *count == 0).collect();
        assert!(empty.is_empty(), "nothing to look at: {empty:?}");
    }
}

/// Every column of every table of the schema, each value as the text or the bytes that it is.
pub(crate) async fn stored(owner: &mut PgConnection) -> Vec<(String, Vec<u8>)> {
    let columns = sqlx::query(
        "select c.relname::text as name, a.attname::text as field, a.atttypid = 'bytea'::regtype as raw \
         from pg_class c join pg_attribute a on a.attrelid = c.oid \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p', 'm') \
           and a.attnum > 0 and not a.attisdropped order by 1, a.attnum",
    )
    .fetch_all(&mut *owner)
    .await
    .unwrap();
    let mut all = Vec::new();
    for column in &columns {
        let (table, field): (String, String) = (column.get("name"), column.get("field"));
        let raw: bool = column.get("raw");
        let shown = if raw { format!("\"{field}\"") } else { format!("convert_to(\"{field}\"::text, 'UTF8')") };
        let values = format!("select {shown} from keyholder.\"{table}\" where \"{field}\" is not null");
        let values: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(values)).fetch_all(&mut *owner).await.unwrap();
        all.extend(values.into_iter().map(|value| (format!("{table}.{field}"), value)));
    }
    all
}

/// What other sessions of the cluster are seen to ask, and what the cluster has written.
async fn of_the_cluster(owner: &mut PgConnection) -> Vec<Vec<u8>> {
    let asked: Vec<String> = sqlx::query_scalar("select query from pg_stat_activity where query is not null")
        .fetch_all(&mut *owner)
        .await
        .unwrap();
    let data: String = sqlx::query_scalar("show data_directory").fetch_one(owner).await.unwrap();
    let log = PathBuf::from(data).parent().unwrap().join("postgres.log");
    let written = std::fs::read(log).unwrap();
    asked.into_iter().map(String::into_bytes).chain([written]).collect()
}

/// What the nodes keep on their disk: the keyring, and their own folder with whatever lies in it.
fn on_disk(app: &TestApp) -> Vec<Vec<u8>> {
    let (mut files, mut folders) =
        (vec![app.ground.keys.keyring().to_path_buf()], vec![app.ground.keys.node_state(&app.database)]);
    while let Some(folder) = folders.pop() {
        // A node that had nothing to keep has made no folder.
        for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let kind = if entry.file_type().unwrap().is_dir() { &mut folders } else { &mut files };
            kind.push(entry.path());
        }
    }
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// All pages of a list, as they were answered.
async fn pages(caller: &Caller, path: &str) -> Vec<Vec<u8>> {
    let (mut pages, mut next) = (Vec::new(), format!("{path}?limit=100"));
    loop {
        let reply = caller.get(&next).await.unwrap();
        pages.push(reply.body.to_vec());
        let page: Value = ok(reply, 200);
        match text(&page, "/next") {
            "" => return pages,
            cursor => next = format!("{path}?limit=100&before={cursor}"),
        }
    }
}

/// Looks everywhere. `foreign` are secrets that no answer may hold, `all` are these and those that one caller was told once.
pub(crate) async fn sweep(
    app: &TestApp,
    lines: &Capture,
    foreign: &Seeker,
    all: &Seeker,
    callers: &[&Caller],
) -> Sweep {
    let mut sweep = Sweep::default();
    let mut exports = Vec::new();
    for path in ["/v1/audit", "/v1/acts", "/v1/connections", "/v1/mandates", "/v1/api-keys"] {
        exports.extend(pages(&app.admin, path).await);
    }
    for caller in callers {
        exports.extend(pages(caller, "/v1/acts").await);
    }
    sweep.look("exports", all, exports);
    let metrics = Caller::new(app.instance.metrics_url(), None).get("/metrics").await.unwrap();
    let metrics = Some(metrics.body).filter(|body| memchr::memmem::find(body, b"keyholder_").is_some());
    sweep.look("metrics", all, metrics);
    let answers = app.witness.lock().unwrap_or_else(PoisonError::into_inner).clone();
    sweep.look("answers", foreign, answers);
    let mut owner = app.owner().await;
    let rows = stored(&mut owner).await;
    sweep.look("tables", all, rows.iter().map(|(_, value)| value));
    sweep.look("the cluster", all, of_the_cluster(&mut owner).await);
    sweep.look("files", all, on_disk(app));
    assert_eq!(lines.lost(), 0, "something was written that is not looked at");
    sweep.look("log lines", all, lines.lines().iter().map(|line| line.as_bytes()));
    sweep
}
