//! A store that is not in memory, as one question sees it: the pages that it has been given so far.
//!
//! Asked for a page that it does not have, it notes it and answers that there is nothing there, so that one asking finds as many missing
//! pages as it can. Whatever comes of such an asking counts for nothing: only an answer that lacked no page is one, and nobody may read
//! one off before [`View::lacking`] was found to be empty.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use relation::{
    BoundCondition,
    tuples::{ReadError, Row, Tuples, User},
};
use store::fga::page::{Line, Want};

/// How many pages one asking may find missing before it is broken off.
const AT_ONCE: usize = 500;

/// No name: the user is no userset.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Tuple,
    Object,
    Usersets,
    User,
}

/// A page, by the numbers of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    /// The object, or the user's object where the page is a user's.
    of: u32,
    relation: u32,
    user: u32,
    user_relation: u32,
}

/// A page's lines, with the numbers of their objects and users.
#[derive(Debug, Default)]
struct Page {
    lines: Arc<[Line]>,
    numbers: Vec<(u32, u32)>,
}

/// Names by number, and numbers by name.
#[derive(Debug, Default)]
struct Names {
    all: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    fn number(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(NONE);
        self.all.push(Arc::clone(name));
        self.numbers.insert(Arc::clone(name), number);
        number
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: u32) -> Arc<str> {
        self.all.get(number as usize).map_or_else(|| Arc::from(""), Arc::clone)
    }
}

/// What a question has been given of a store.
#[derive(Debug, Default)]
pub(super) struct View {
    objects: Names,
    relations: Names,
    pages: HashMap<Key, Page>,
    lacking: RefCell<Vec<Want>>,
    /// Names that a question asked for and no page has.
    strange: RefCell<Vec<String>>,
}

/// The asking was broken off: enough is missing by now, or a name is not known yet.
#[derive(Debug, thiserror::Error)]
#[error("pages are missing")]
struct Missing;

impl View {
    /// One that knows these names from the beginning, so that no asking is broken off for them.
    pub(super) fn knowing(names: &[String]) -> Self {
        let mut view = Self::default();
        for name in names {
            view.objects.number(&Arc::from(name.as_str()));
        }
        view
    }

    /// Takes a page in.
    pub(super) fn add(&mut self, want: &Want, lines: Arc<[Line]>) {
        let key = self.key_of(want);
        let mut numbers = Vec::with_capacity(lines.len());
        for line in lines.iter() {
            if let Some(relation) = &line.user_relation {
                self.relations.number(relation);
            }
            numbers.push((self.objects.number(&line.object), self.objects.number(&line.user)));
        }
        self.pages.insert(key, Page { lines, numbers });
    }

    /// Which pages the last asking has found missing, each once. None: what it answered is the answer, unless a name was strange to it.
    pub(super) fn lacking(&mut self) -> Vec<Want> {
        let mut wants = std::mem::take(self.lacking.get_mut());
        let mut seen = std::collections::HashSet::new();
        wants.retain(|want| seen.insert(want.clone()));
        wants
    }

    /// Learns the names that the last asking did not know. `true`: there were some, and it must be asked again.
    pub(super) fn learns(&mut self) -> bool {
        let strange = std::mem::take(self.strange.get_mut());
        for name in &strange {
            self.objects.number(&Arc::from(name.as_str()));
        }
        !strange.is_empty()
    }

    fn key_of(&mut self, want: &Want) -> Key {
        let (kind, of, relation, user) = match want {
            Want::Tuple { object, relation, user } => (Kind::Tuple, object, relation, Some(user)),
            Want::Object { object, relation, usersets: true } => (Kind::Usersets, object, relation, None),
            Want::Object { object, relation, usersets: false } => (Kind::Object, object, relation, None),
            Want::User { user, relation } => (Kind::User, user, relation, Some(user)),
        };
        let relation = self.relations.number(relation);
        let (user, user_relation) = match user.map(|user| user.split_once('#').unwrap_or((user, ""))) {
            None => (NONE, NONE),
            Some((user, "")) => (self.objects.number(&Arc::from(user)), NONE),
            Some((user, relation)) => {
                (self.objects.number(&Arc::from(user)), self.relations.number(&Arc::from(relation)))
            }
        };
        let of = if kind == Kind::User { user } else { self.objects.number(of) };
        Key { kind, of, relation, user, user_relation }
    }

    fn find(&self, kind: Kind, of: u32, relation: &str, user: Option<User<'_, u32>>) -> Option<&Page> {
        let user_relation = match user.and_then(|user| user.relation) {
            Some(relation) => self.relations.find(relation)?,
            None => NONE,
        };
        let user = user.map_or(NONE, |user| user.object);
        self.pages.get(&Key { kind, of, relation: self.relations.find(relation)?, user, user_relation })
    }

    fn written(&self, user: User<'_, u32>) -> Arc<str> {
        let name = self.objects.name(user.object);
        user.relation.map_or(Arc::clone(&name), |relation| format!("{name}#{relation}").into())
    }

    /// The lines of a page; none where it is missing, which is noted.
    fn read<'a>(&'a self, page: Option<&'a Page>, want: impl FnOnce() -> Want) -> Result<Lines<'a>, ReadError> {
        if let Some(page) = page {
            return Ok(Lines(page.lines.iter().zip(page.numbers.iter())));
        }
        let mut lacking = self.lacking.borrow_mut();
        lacking.push(want());
        if lacking.len() >= AT_ONCE { Err(ReadError(Box::new(Missing))) } else { Ok(Lines([].iter().zip([].iter()))) }
    }
}

/// The tuples of a page.
#[derive(Debug)]
pub(super) struct Lines<'a>(std::iter::Zip<std::slice::Iter<'a, Line>, std::slice::Iter<'a, (u32, u32)>>);

impl<'a> Iterator for Lines<'a> {
    type Item = Row<'a, u32>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, (object, user)) = self.0.next()?;
        let condition: Option<&BoundCondition> = line.condition.as_ref();
        Some(Row { object: *object, user: User { object: *user, relation: line.user_relation.as_deref() }, condition })
    }
}

impl Tuples for View {
    type Object = u32;
    type Rows<'a> = Lines<'a>;

    /// Every name that is asked for may be one of the store.
    fn object(&self, name: &str) -> Result<Option<u32>, ReadError> {
        if let Some(number) = self.objects.find(name) {
            return Ok(Some(number));
        }
        self.strange.borrow_mut().push(name.to_owned());
        Err(ReadError(Box::new(Missing)))
    }

    fn name(&self, object: u32) -> &str {
        self.objects.all.get(object as usize).map_or("", |name| name)
    }

    fn tuple<'a>(&'a self, object: u32, relation: &str, user: User<'_, u32>) -> Result<Lines<'a>, ReadError> {
        self.read(self.find(Kind::Tuple, object, relation, Some(user)), || Want::Tuple {
            object: self.objects.name(object),
            relation: relation.into(),
            user: self.written(user),
        })
    }

    fn users<'a>(&'a self, object: u32, relation: &str) -> Result<Lines<'a>, ReadError> {
        self.read(self.find(Kind::Object, object, relation, None), || Want::Object {
            object: self.objects.name(object),
            relation: relation.into(),
            usersets: false,
        })
    }

    fn usersets<'a>(&'a self, object: u32, relation: &str) -> Result<Lines<'a>, ReadError> {
        self.read(self.find(Kind::Usersets, object, relation, None), || Want::Object {
            object: self.objects.name(object),
            relation: relation.into(),
            usersets: true,
        })
    }

    fn objects<'a>(&'a self, user: User<'_, u32>, relation: &str) -> Result<Lines<'a>, ReadError> {
        self.read(self.find(Kind::User, user.object, relation, Some(user)), || Want::User {
            user: self.written(user),
            relation: relation.into(),
        })
    }
}

#[cfg(test)]
#[path = "paged_tests.rs"]
mod tests;
