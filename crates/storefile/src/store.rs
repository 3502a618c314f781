//! A store file, read and judged: its model is sound, its tuples are the model's, and its tests ask what can be asked.

use std::{collections::HashSet, path::Path};

use relation::{Relationship, Schema};
use serde_saphyr::Spanned;

use crate::{
    beside::{self, Beside},
    document::{Check, Document, ListObjects, ListUsers, Test as WrittenTest, Tuple},
    fault::Fault,
    model,
    tuples::{self, Written},
    yaml,
};

/// The longest store file, in bytes.
pub const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// How many tuples a store may have, those of its tests counted with its own.
const TUPLES: usize = 1_000_000;
/// How many questions a store file may ask.
const QUESTIONS: usize = 100_000;
/// How many faults are told.
const FAULTS: usize = 100;

/// A store file that can be run.
#[derive(Debug)]
pub struct StoreFile {
    name: Option<String>,
    schema: Schema,
    tuples: Vec<Relationship>,
    pub(crate) tests: Vec<Test>,
}

/// A test: its own tuples, and what is asked.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) tuples: Vec<Relationship>,
    pub(crate) check: Vec<Check>,
    pub(crate) list_objects: Vec<ListObjects>,
    pub(crate) list_users: Vec<ListUsers>,
}

impl StoreFile {
    /// Reads the store file at a path, and the files beneath its folder that it names; files elsewhere too only if `beyond`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn open(path: &Path, beyond: bool) -> Result<Self, Vec<Fault>> {
        let file = path.display().to_string();
        let text = beside::text(path, FILE_BYTES).map_err(|error| vec![Fault::new(&file, None, error.to_string())])?;
        let beside = Beside::file(path);
        Self::read(&file, &text, &if beyond { beside.or_beyond() } else { beside })
    }

    /// Reads the text of a store file. `file` is what faults call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, or with the files that it names; a hundred faults at most.
    pub fn read(file: &str, text: &str, beside: &Beside) -> Result<Self, Vec<Fault>> {
        if text.len() as u64 > FILE_BYTES {
            return Err(vec![Fault::new(file, None, format!("it is longer than {FILE_BYTES} bytes"))]);
        }
        let document: Option<Document> = yaml::read(file, text).map_err(|fault| vec![fault])?;
        let document = document.ok_or_else(|| vec![Fault::new(file, None, "the file is empty")])?;
        let mut reading = Reading { file, beside, faults: Vec::new(), tuples: 0 };
        let store = reading.store(text, document);
        reading.faults.truncate(FAULTS);
        store.filter(|_| reading.faults.is_empty()).ok_or(reading.faults)
    }

    /// The store's name, if it says one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The model.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The tuples that all tests have.
    pub fn tuples(&self) -> &[Relationship] {
        &self.tuples
    }
}

/// The name of a file that another names, in its own folder.
pub(crate) fn beside_name(file: &str, name: &str) -> String {
    match Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => folder.join(name).display().to_string(),
        None => name.to_owned(),
    }
}

struct Reading<'a> {
    file: &'a str,
    beside: &'a Beside,
    faults: Vec<Fault>,
    /// How many tuples have been read. No file is read beyond the bound.
    tuples: usize,
}

impl Reading<'_> {
    fn fault(&mut self, place: Option<(u64, u64)>, message: impl Into<String>) {
        self.faults.push(Fault::new(self.file, place, message));
    }

    fn store(&mut self, text: &str, document: Document) -> Option<StoreFile> {
        let Document { name, model, model_file, tuples, tuple_file, tuple_files, tests } = document;
        let schema = match (&model, &model_file) {
            (Some(model), _) if !model.value.is_empty() => model::inline(self.file, text, model),
            (_, Some(named)) => {
                let shown = beside_name(self.file, &named.value);
                model::of_file(self.beside, &named.value, &shown, |message| self.at(named, message))
            }
            _ => Err(vec![Fault::new(self.file, None, "there is neither a model nor a model_file")]),
        };
        let schema = schema.map_err(|faults| self.faults.extend(faults)).ok();
        let named = tuple_file.iter().chain(tuple_files.iter().flatten());
        let written = self.tuples(tuples.unwrap_or_default(), named);
        if tests.is_none() {
            self.fault(None, "there are no tests");
        }
        let schema = schema?;
        let mut seen = HashSet::new();
        self.judge(&schema, &written, &mut seen);
        let mut questions = 0;
        let tests = (1..).zip(tests.unwrap_or_default());
        let tests = tests.map(|(number, test)| self.test(&schema, number, test, &mut seen, &mut questions)).collect();
        drop(seen);
        if self.tuples > TUPLES {
            self.fault(None, format!("there are more than {TUPLES} tuples"));
            return None;
        }
        if questions > QUESTIONS {
            self.fault(None, format!("the tests ask more than {QUESTIONS} questions"));
        }
        let tuples = written.into_iter().map(|written| written.tuple).collect();
        Some(StoreFile { name, schema, tuples, tests })
    }

    fn at<T>(&self, spanned: &Spanned<T>, message: impl Into<String>) -> Fault {
        Fault::new(self.file, yaml::place(spanned.referenced), message)
    }

    /// The tuples that are written there, and those of the files that are named.
    fn tuples<'n>(
        &mut self,
        here: Vec<Spanned<Tuple>>,
        named: impl IntoIterator<Item = &'n Spanned<String>>,
    ) -> Vec<Written> {
        let mut written = tuples::of_document(self.file, here);
        self.tuples = self.tuples.saturating_add(written.len());
        for named in named {
            if self.tuples > TUPLES {
                break;
            }
            let of_file = self.tuple_file(named);
            self.tuples = self.tuples.saturating_add(of_file.len());
            written.extend(of_file);
        }
        written
    }

    fn tuple_file(&mut self, named: &Spanned<String>) -> Vec<Written> {
        let shown = beside_name(self.file, &named.value);
        let read = tuples::of_file(self.beside, &named.value, &shown, |message| self.at(named, message));
        read.unwrap_or_else(|fault| {
            self.faults.push(fault);
            Vec::new()
        })
    }

    /// Whether the tuples are the model's, and each there once: what a store would refuse to be written, a test must not assume.
    fn judge(&mut self, schema: &Schema, written: &[Written], seen: &mut HashSet<(String, String, String)>) {
        for Written { tuple, file, place } in written {
            if self.faults.len() > FAULTS || self.tuples > TUPLES {
                return;
            }
            if let Err(fault) = schema.admit(tuple) {
                self.faults.push(Fault::new(file, *place, format!("a tuple that the model does not allow: {fault}")));
            }
            if !seen.insert(key(tuple)) {
                let Relationship { object, relation, user, .. } = tuple;
                let message = format!("the tuple of {user}, {relation} and {object} is there already");
                self.faults.push(Fault::new(file, *place, message));
            }
        }
    }

    fn test(
        &mut self,
        schema: &Schema,
        number: usize,
        test: Spanned<WrittenTest>,
        seen: &mut HashSet<(String, String, String)>,
        questions: &mut usize,
    ) -> Test {
        let test = test.value;
        let name = test.name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("test {number}"));
        let written = self.tuples(test.tuples.unwrap_or_default(), &test.tuple_file);
        // The store's tuples are in `seen` already; the test's own leave it again before the next test.
        let before = self.faults.len();
        self.judge(schema, &written, seen);
        if self.faults.len() == before {
            for tuple in &written {
                seen.remove(&key(&tuple.tuple));
            }
        }
        for check in test.check.iter().flatten() {
            self.check(check);
            let Check { users, objects, assertions, .. } = &check.value;
            let of = |many: &Option<Vec<String>>| many.as_ref().map_or(1, Vec::len).max(1);
            *questions = questions.saturating_add(of(users).saturating_mul(of(objects)) * assertions.len());
        }
        for list in test.list_users.iter().flatten().filter(|list| list.value.user_filter.is_empty()) {
            let fault = self.at(list, "user_filter has no filter");
            self.faults.push(fault);
        }
        let check = values(test.check);
        let (list_objects, list_users) = (values(test.list_objects), values(test.list_users));
        let listed = list_objects.iter().map(|list| list.assertions.len());
        let listed = listed.chain(list_users.iter().map(|list| list.assertions.len()));
        *questions = questions.saturating_add(listed.sum());
        let tuples = written.into_iter().map(|written| written.tuple).collect();
        Test { name, tuples, check, list_objects, list_users }
    }

    /// Whether a check says once whom and once what it is about.
    fn check(&mut self, check: &Spanned<Check>) {
        let Check { user, users, object, objects, .. } = &check.value;
        for (one, many, name) in [(user, users, "user"), (object, objects, "object")] {
            let (one, many) = (one.as_ref().is_some_and(|one| !one.is_empty()), many.iter().flatten().next().is_some());
            let message = match (one, many) {
                (true, true) => format!("a check has either {name} or {name}s, and not both"),
                (false, false) => format!("a check needs {name} or {name}s"),
                _ => continue,
            };
            let fault = self.at(check, message);
            self.faults.push(fault);
        }
    }
}

fn key(tuple: &Relationship) -> (String, String, String) {
    (tuple.object.clone(), tuple.relation.clone(), tuple.user.clone())
}

fn values<T>(spanned: Option<Vec<Spanned<T>>>) -> Vec<T> {
    spanned.into_iter().flatten().map(|spanned| spanned.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tuples_of_tests_count_with_those_of_the_store() {
        let text = concat!(
            "model: |\n  model\n    schema 1.1\n  type user\n  type doc\n    relations\n      define viewer: [user]\n",
            "tuples:\n  - { user: user:a, relation: viewer, object: doc:1 }\n",
            "tests:\n  - name: one\n    tuple_file: nowhere.csv\n    tuples:\n      - { user: user:b, relation: viewer, object: doc:1 }\n",
        );
        let beside = Beside::file(Path::new("store.fga.yaml"));
        let faults = |before: usize| {
            let document: Option<Document> = yaml::read("store", text).unwrap();
            let mut reading = Reading { file: "store", beside: &beside, faults: Vec::new(), tuples: before };
            reading.store(text, document.unwrap());
            reading.faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // Within the bound the file that the test names is read; beyond it, it is not even looked for.
        assert!(faults(TUPLES - 2).concat().contains("nowhere.csv"));
        assert_eq!(faults(TUPLES - 1), [format!("store: there are more than {TUPLES} tuples")]);
    }
}
