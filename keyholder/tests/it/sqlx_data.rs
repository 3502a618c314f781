//! The checked-in descriptions of statements (`.sqlx`) are those of the schema as it is: each is described anew and compared.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Column, Connection, Either, Executor, PgConnection, SqlSafeStr, TypeInfo};

use crate::harness::{fresh_database, home};

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_are_up_to_date() {
    let database = fresh_database().await;
    let mut sql = PgConnection::connect(&home().owner_url(&database)).await.unwrap();
    sqlx::query("set search_path = keyholder").execute(&mut sql).await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut described = BTreeSet::new();
    for file in fs::read_dir(root.join(".sqlx")).unwrap() {
        let kept: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        let query = kept["query"].as_str().unwrap().to_owned();
        let now = (&mut sql).describe(AssertSqlSafe(query.clone()).into_sql_str()).await.unwrap_or_else(|error| {
            panic!("no longer a statement of this schema: {query}: {error}");
        });
        let columns: Vec<_> =
            now.columns().iter().map(|column| (column.name(), column.type_info().name().to_owned())).collect();
        let kept_columns = kept["describe"]["columns"].as_array().unwrap();
        assert_eq!(columns.len(), kept_columns.len(), "{query}");
        for ((name, kind), kept) in columns.iter().zip(kept_columns) {
            assert_eq!(*name, kept["name"].as_str().unwrap(), "{query}");
            assert!(same_type(kind, &kept["type_info"]), "{query}: {name} is {kind}, kept as {}", kept["type_info"]);
        }
        let nullable: Vec<_> = (0..columns.len()).map(|place| now.nullable(place)).collect();
        let kept_nullable: Vec<_> =
            kept["describe"]["nullable"].as_array().unwrap().iter().map(Value::as_bool).collect();
        assert_eq!(nullable, kept_nullable, "{query}");
        let parameters = match now.parameters() {
            Some(Either::Left(types)) => types.len(),
            Some(Either::Right(count)) => count,
            None => 0,
        };
        assert_eq!(parameters, kept["describe"]["parameters"]["Left"].as_array().unwrap().len(), "{query}");
        described.insert(query);
    }
    assert!(described.len() > 80, "only {} statements", described.len());

    // Nothing is kept that no source states.
    let source = squeezed(&sources(&root.join("crates/store/src")));
    for query in &described {
        assert!(source.contains(&squeezed(query)), "described, and stated nowhere: {query}");
    }
}

/// Types are kept by the names of `sqlx` (such as `TextArray`); the server has its own.
fn same_type(now: &str, kept: &Value) -> bool {
    let plain = |text: &str| text.to_lowercase().replace("[]", "array");
    let alias = match plain(now).as_str() {
        "boolean" => "bool".to_owned(),
        other => other.to_owned(),
    };
    kept.as_str().is_some_and(|kept| plain(kept) == alias)
}

/// A text without what a source writes differently: blanks, line breaks and the backslashes before them and before quotes.
fn squeezed(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace() && *letter != '\\').collect()
}

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            text += &sources(&entry.path());
        } else {
            text += &fs::read_to_string(entry.path()).unwrap();
        }
    }
    text
}
