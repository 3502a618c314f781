//! Tuples, of a store file and of the files that it names: YAML, JSON, a JSON a line, or comma-separated values.

use std::path::Path;

use relation::{Relationship, condition::Context};
use serde_saphyr::Spanned;

use crate::{beside::Beside, csv, document::Tuple, fault::Fault, yaml};

/// The longest tuple file, in bytes.
const BYTES: u64 = 32 * 1024 * 1024;
/// The columns of comma-separated values.
const COLUMNS: [&str; 8] = [
    "user_type",
    "user_id",
    "user_relation",
    "relation",
    "object_type",
    "object_id",
    "condition_name",
    "condition_context",
];
/// Those that must be there.
const NEEDED: [&str; 5] = ["user_type", "user_id", "relation", "object_type", "object_id"];

/// A tuple, and where it is written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) tuple: Relationship,
    pub(crate) file: String,
    pub(crate) place: Option<(u64, u64)>,
}

fn relationship(tuple: Tuple) -> Relationship {
    let plain = Relationship::new(tuple.object, tuple.relation, tuple.user);
    match tuple.condition {
        Some(condition) => plain.under(condition.name, condition.context.unwrap_or_default()),
        None => plain,
    }
}

/// The tuples of a document.
pub(crate) fn of_document(file: &str, tuples: Vec<Spanned<Tuple>>) -> Vec<Written> {
    let written = |tuple: Spanned<Tuple>| Written {
        place: yaml::place(tuple.referenced),
        tuple: relationship(tuple.value),
        file: file.to_owned(),
    };
    tuples.into_iter().map(written).collect()
}

/// The tuples of a file. One without any is a fault: a file that is named is meant to say something.
///
/// # Errors
/// What is wrong with it; where it cannot be read, at the place that names it.
pub(crate) fn of_file(
    beside: &Beside,
    name: &str,
    shown: &str,
    named: impl Fn(String) -> Fault,
) -> Result<Vec<Written>, Fault> {
    let text = beside.read(name, BYTES).map_err(|error| named(format!("the tuple file {name}: {error}")))?;
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let tuples = match extension {
        "yaml" | "yml" => of_document(shown, yaml::read::<Option<_>>(shown, &text)?.unwrap_or_default()),
        "json" => of_json(shown, &text)?,
        "jsonl" => of_json_lines(shown, &text)?,
        "csv" => of_csv(shown, &text)?,
        _ => {
            let message = format!("the tuple file {name} is neither .yaml nor .yml, .json, .jsonl or .csv");
            return Err(named(message));
        }
    };
    if tuples.is_empty() { Err(Fault::new(shown, None, "the file has no tuples")) } else { Ok(tuples) }
}

fn json_fault(file: &str, line_before: u64, error: &serde_json::Error) -> Fault {
    let place = (error.line() > 0).then(|| (line_before + error.line() as u64, error.column() as u64));
    let said = error.to_string();
    let message = said.split(" at line ").next().unwrap_or_default().to_owned();
    Fault::new(file, place, message)
}

fn of_json(file: &str, text: &str) -> Result<Vec<Written>, Fault> {
    let tuples: Vec<Tuple> = serde_json::from_str(text).map_err(|error| json_fault(file, 0, &error))?;
    let written = |tuple| Written { tuple: relationship(tuple), file: file.to_owned(), place: None };
    Ok(tuples.into_iter().map(written).collect())
}

fn of_json_lines(file: &str, text: &str) -> Result<Vec<Written>, Fault> {
    let lines = (0..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let written = |(before, line): (u64, &str)| {
        let tuple: Tuple = serde_json::from_str(line).map_err(|error| json_fault(file, before, &error))?;
        Ok(Written { tuple: relationship(tuple), file: file.to_owned(), place: Some((before + 1, 1)) })
    };
    lines.map(written).collect()
}

fn of_csv(file: &str, text: &str) -> Result<Vec<Written>, Fault> {
    let fault = |line: u64, message: String| Fault::new(file, Some((line, 1)), message);
    let records = csv::records(text).map_err(|(line, message)| fault(line, message.to_owned()))?;
    let mut records = records.into_iter();
    let Some((_, header)) = records.next() else { return Ok(Vec::new()) };
    let header: Vec<&str> = header.iter().map(|name| name.trim()).collect();
    if let Some(unknown) = header.iter().find(|name| !COLUMNS.contains(name)) {
        return Err(fault(1, format!("{unknown:?} is none of the columns {}", COLUMNS.join(", "))));
    }
    if let Some(missing) = NEEDED.iter().find(|name| !header.contains(name)) {
        return Err(fault(1, format!("the column {missing} is missing")));
    }
    if header.contains(&"condition_context") && !header.contains(&"condition_name") {
        return Err(fault(1, "the column condition_name is missing, which condition_context is about".to_owned()));
    }
    let written = |(line, fields): csv::Record| {
        let field = |name: &str| {
            let at = header.iter().position(|known| *known == name)?;
            fields.get(at).map(String::as_str).filter(|field| !field.is_empty())
        };
        let part = |name: &str| field(name).unwrap_or_default();
        let mut user = format!("{}:{}", part("user_type"), part("user_id"));
        if let Some(relation) = field("user_relation") {
            user = format!("{user}#{relation}");
        }
        let object = format!("{}:{}", part("object_type"), part("object_id"));
        let mut tuple = Relationship::new(object, part("relation"), user);
        if let Some(name) = field("condition_name") {
            let context: Context = serde_json::from_str(field("condition_context").unwrap_or("{}"))
                .map_err(|error| fault(line, format!("the context of the condition is no JSON object: {error}")))?;
            tuple = tuple.under(name, context);
        }
        Ok(Written { tuple, file: file.to_owned(), place: Some((line, 1)) })
    };
    records.map(written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Relationship>, Fault> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let beside = Beside::file(&folder.path().join("store.fga.yaml"));
        let tuples = of_file(&beside, name, name, |message| Fault::new("store", None, message))?;
        Ok(tuples.into_iter().map(|written| written.tuple).collect())
    }

    #[test]
    fn every_form_says_the_same() {
        let mut context = Context::new();
        context.insert("x".to_owned(), 3.into());
        let expected = vec![
            Relationship::new("doc:1", "viewer", "user:anne"),
            Relationship::new("doc:2", "viewer", "group:a#member").under("small", context),
        ];
        let yaml = "- { user: user:anne, relation: viewer, object: doc:1 }\n- user: group:a#member\n  relation: viewer\n  \
             object: doc:2\n  condition: { name: small, context: { x: 3 } }\n";
        let one = r#"{"user": "user:anne", "relation": "viewer", "object": "doc:1"}"#;
        let two = r#"{"user":"group:a#member","relation":"viewer","object":"doc:2","condition":{"name":"small","context":{"x":3}}}"#;
        let csv = "user_type,user_id,user_relation,relation,object_type,object_id,condition_name,condition_context\n\
             user,anne,,viewer,doc,1,,\ngroup,a,member,viewer,doc,2,small,\"{\"\"x\"\":3}\"\n";
        assert_eq!(read("t.yaml", yaml).unwrap(), expected);
        assert_eq!(read("t.yml", &format!("[{one}, {two}]")).unwrap(), expected);
        assert_eq!(read("t.json", &format!("[\n\t{one},\n\t{two}\n]")).unwrap(), expected);
        assert_eq!(read("t.jsonl", &format!("{one}\n\n{two}\n")).unwrap(), expected);
        assert_eq!(read("t.csv", csv).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let cases = [
            ("t.yaml", "- user: a:b\n  relation: r\n", "t.yaml:2:3: missing field `object`"),
            ("t.yaml", "", "t.yaml: the file has no tuples"),
            ("t.json", "[\n{\"user\": 1}]", "t.json:2:10: invalid type: integer `1`, expected a string"),
            ("t.jsonl", "\n{\"usr\": 1}", "t.jsonl:2:6: unknown field `usr`, expected one of"),
            ("t.csv", "user_type,user_id,relation,object_type\n", "t.csv:1:1: the column object_id is missing"),
            ("t.csv", "user,relation\n", "t.csv:1:1: \"user\" is none of the columns"),
            (
                "t.csv",
                "user_type,user_id,relation,object_type,object_id,condition_name,condition_context\na,b,c,d,e,f,[]\n",
                "t.csv:2:1: the context of the condition is no JSON object",
            ),
            ("t.txt", "", "store: the tuple file t.txt is neither"),
        ];
        for (name, text, expected) in cases {
            let fault = read(name, text).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        }
    }
}
