//! Tuples in memory, as they were at one moment.
//!
//! Names are numbers here, so that a tuple takes 24 bytes and its share of the names, each of which takes its letters and about 20
//! bytes. The rows are sorted by object; the same rows by user are a list of their places.

use std::ops::Range;

use super::{
    ReadError, Row, Tuples, User,
    names::{NOTHING, Names},
};
use crate::relationship::{BoundCondition, Relationship, UserRef};

/// Tuples that a snapshot cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    /// More tuples or names than it can number.
    #[error("a snapshot cannot hold that many tuples")]
    Full,
    /// A tuple without a user.
    #[error("'{0}' is no user")]
    User(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    object: u32,
    relation: u32,
    user: u32,
    user_relation: u32,
    condition: u32,
}

impl Entry {
    fn by_object(&self) -> (u32, u128, u32) {
        (self.object, self.rank(), self.condition)
    }

    /// Where it stands among the entries of its object, in one number, since it is compared more often than anything else: by relation; then
    /// those whose user is one (or all of a type), and after them those of a relation; by user.
    fn rank(&self) -> u128 {
        rank(self.relation, self.user_relation != NOTHING)
            | u128::from(self.user) << 32
            | u128::from(self.user_relation)
    }

    fn by_user(&self) -> (u32, u32, u32, u32) {
        (self.user, self.user_relation, self.relation, self.object)
    }
}

/// Tuples in memory.
#[derive(Debug, Default)]
pub struct Snapshot {
    names: Names,
    relations: Names,
    entries: Vec<Entry>,
    by_user: Vec<u32>,
    /// For each name, how many entries are about objects before it; and how many are of users before it.
    starts: Vec<u32>,
    user_starts: Vec<u32>,
    conditions: Vec<BoundCondition>,
}

impl Snapshot {
    /// Takes tuples. What is there twice counts once; of two with different conditions both count.
    ///
    /// # Errors
    /// [`SnapshotFault`].
    pub fn new<'a>(tuples: impl IntoIterator<Item = &'a Relationship>) -> Result<Self, SnapshotFault> {
        let mut snapshot = Self::default();
        for tuple in tuples {
            let user = UserRef::parse(&tuple.user).ok_or_else(|| SnapshotFault::User(tuple.user.clone()))?;
            snapshot.add(tuple, user).ok_or(SnapshotFault::Full)?;
        }
        let Self { names, relations, entries, by_user, conditions, starts, user_starts } = &mut snapshot;
        entries.sort_unstable_by_key(Entry::by_object);
        entries.dedup_by(|one, other| {
            let alike = one.condition == other.condition || {
                let bound = |entry: &Entry| conditions.get(entry.condition as usize);
                bound(one).is_some() && bound(one) == bound(other)
            };
            alike && Entry { condition: 0, ..*one } == Entry { condition: 0, ..*other }
        });
        entries.shrink_to_fit();
        conditions.shrink_to_fit();
        names.shrink();
        relations.shrink();
        *by_user = (0..u32::try_from(entries.len()).map_err(|_| SnapshotFault::Full)?).collect();
        by_user.sort_unstable_by_key(|at| entries.get(*at as usize).map(Entry::by_user));
        *starts = counted(names.len(), entries.iter().map(|entry| entry.object));
        *user_starts = counted(names.len(), entries.iter().map(|entry| entry.user));
        Ok(snapshot)
    }

    fn add(&mut self, tuple: &Relationship, user: UserRef<'_>) -> Option<()> {
        let condition = match &tuple.condition {
            None => NOTHING,
            Some(bound) => {
                self.conditions.push(bound.clone());
                u32::try_from(self.conditions.len() - 1).ok()?
            }
        };
        let entry = Entry {
            object: self.names.add(&tuple.object)?,
            relation: self.relations.add(&tuple.relation)?,
            user: self.names.add(user.object)?,
            user_relation: user.relation.map_or(Some(NOTHING), |relation| self.relations.add(relation))?,
            condition,
        };
        self.entries.push(entry);
        Some(())
    }

    /// How many tuples there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.names.bytes()
            + self.relations.bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + (self.by_user.capacity() + self.starts.capacity() + self.user_starts.capacity()) * size_of::<u32>()
            + self.conditions.iter().map(BoundCondition::bytes).sum::<usize>()
    }

    fn row(&self, entry: &Entry) -> Row<'_, u32> {
        let relation = (entry.user_relation != NOTHING).then(|| self.relations.name(entry.user_relation));
        Row {
            object: entry.object,
            user: User { object: entry.user, relation },
            condition: self.conditions.get(entry.condition as usize),
        }
    }

    /// The entries of an object and a relation: all, or those whose user is a userset.
    fn range(&self, object: u32, relation: &str, usersets: bool) -> Range<usize> {
        let Some(relation) = self.relations.find(relation) else { return 0..0 };
        let first = rank(relation, usersets);
        self.of_object(object, |entry| entry.rank() < first, |entry| entry.relation == relation)
    }

    /// Of an object's entries, those that belong, before which others stand.
    fn of_object(
        &self,
        object: u32,
        before: impl Fn(&Entry) -> bool,
        belongs: impl Fn(&Entry) -> bool,
    ) -> Range<usize> {
        let Range { start, end } = between(&self.starts, object);
        let all = self.entries.get(start..end).unwrap_or_default();
        let skipped = run(all, before);
        let length = run(all.get(skipped..).unwrap_or_default(), belongs);
        start + skipped..start + skipped + length
    }

    fn rows(&self, rows: Range<usize>) -> SnapshotRows<'_> {
        SnapshotRows { snapshot: self, rows, by_user: false }
    }

    /// The number of a user's relation.
    fn user_relation(&self, relation: Option<&str>) -> Option<u32> {
        relation.map_or(Some(NOTHING), |relation| self.relations.find(relation))
    }
}

/// The first place of a relation's entries, or of those among them whose user is a userset.
fn rank(relation: u32, usersets: bool) -> u128 {
    u128::from(relation) << 65 | u128::from(usersets) << 64
}

/// For each of so many names and one more, how many of these numbers are smaller.
fn counted(names: usize, numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut counts = vec![0; names + 1];
    for number in numbers {
        if let Some(count) = counts.get_mut(number as usize + 1) {
            *count += 1;
        }
    }
    let mut total = 0;
    for count in &mut counts {
        total += *count;
        *count = total;
    }
    counts
}

/// What lies between a name's start and the next one's.
fn between(starts: &[u32], name: u32) -> Range<usize> {
    let start = |at: usize| starts.get(at).map_or(0, |start| *start as usize);
    start(name as usize)..start(name as usize + 1)
}

/// How many of the first belong; they stand together. Most often there are few, so that it is looked for from the beginning.
fn run<T>(of: &[T], belongs: impl Fn(&T) -> bool) -> usize {
    const FEW: usize = 8;
    match of.iter().take(FEW).position(|one| !belongs(one)) {
        Some(few) => few,
        None if of.len() <= FEW => of.len(),
        None => of.partition_point(belongs),
    }
}

/// Some rows of a snapshot.
#[derive(Debug)]
pub struct SnapshotRows<'a> {
    snapshot: &'a Snapshot,
    rows: Range<usize>,
    by_user: bool,
}

impl<'a> Iterator for SnapshotRows<'a> {
    type Item = Row<'a, u32>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.rows.next()?;
        let at = if self.by_user { *self.snapshot.by_user.get(at)? as usize } else { at };
        self.snapshot.entries.get(at).map(|entry| self.snapshot.row(entry))
    }
}

impl Tuples for Snapshot {
    type Object = u32;
    type Rows<'a> = SnapshotRows<'a>;

    fn object(&self, name: &str) -> Result<Option<u32>, ReadError> {
        Ok(self.names.find(name))
    }

    fn name(&self, object: u32) -> &str {
        self.names.name(object)
    }

    fn tuple<'a>(&'a self, object: u32, relation: &str, user: User<'_, u32>) -> Result<SnapshotRows<'a>, ReadError> {
        let Some((relation, user_relation)) = self.relations.find(relation).zip(self.user_relation(user.relation))
        else {
            return Ok(self.rows(0..0));
        };
        let wanted = Entry { object, relation, user: user.object, user_relation, condition: 0 };
        let rank = wanted.rank();
        Ok(self.rows(self.of_object(object, |entry| entry.rank() < rank, |entry| entry.rank() == rank)))
    }

    fn users<'a>(&'a self, object: u32, relation: &str) -> Result<SnapshotRows<'a>, ReadError> {
        Ok(self.rows(self.range(object, relation, false)))
    }

    fn usersets<'a>(&'a self, object: u32, relation: &str) -> Result<SnapshotRows<'a>, ReadError> {
        Ok(self.rows(self.range(object, relation, true)))
    }

    fn objects<'a>(&'a self, user: User<'_, u32>, relation: &str) -> Result<SnapshotRows<'a>, ReadError> {
        let Some((user_relation, relation)) = self.user_relation(user.relation).zip(self.relations.find(relation))
        else {
            return Ok(self.rows(0..0));
        };
        let wanted = (user_relation, relation);
        let key = |at: &u32| self.entries.get(*at as usize).map(|entry| (entry.user_relation, entry.relation));
        let Range { start, end } = between(&self.user_starts, user.object);
        let all = self.by_user.get(start..end).unwrap_or_default();
        let skipped = run(all, |at| key(at) < Some(wanted));
        let length = run(all.get(skipped..).unwrap_or_default(), |at| key(at) == Some(wanted));
        Ok(SnapshotRows { snapshot: self, rows: start + skipped..start + skipped + length, by_user: true })
    }
}
