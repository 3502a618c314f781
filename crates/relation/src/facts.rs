//! Facts as tuples, and the questions that the rules put to them.

use std::collections::{HashMap, HashSet};

use domain::id::WorkspaceId;

/// One relationship fact: `subject` stands in `relation` to `object`, each written `type:id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// What the fact is about.
    pub object: String,
    /// How the subject stands to it.
    pub relation: String,
    /// Who or what stands so.
    pub subject: String,
}

impl Tuple {
    /// A fact.
    pub fn new(object: impl Into<String>, relation: &str, subject: impl Into<String>) -> Self {
        Self { object: object.into(), relation: relation.to_owned(), subject: subject.into() }
    }
}

/// The facts of one workspace, as they were at one revision.
#[derive(Debug)]
pub struct Facts {
    workspace: WorkspaceId,
    epoch: i64,
    revision: i64,
    installation_revision: i64,
    tuples: HashSet<Tuple>,
    subjects: HashMap<(String, String), Vec<String>>,
    objects: HashMap<(String, String), Vec<String>>,
}

impl Facts {
    /// Facts that were read together with their revision.
    pub fn new(
        workspace: WorkspaceId,
        (epoch, revision, installation_revision): (i64, i64, i64),
        tuples: impl IntoIterator<Item = Tuple>,
    ) -> Self {
        let tuples: HashSet<Tuple> = tuples.into_iter().collect();
        let mut subjects: HashMap<_, Vec<_>> = HashMap::new();
        let mut objects: HashMap<_, Vec<_>> = HashMap::new();
        for tuple in &tuples {
            subjects.entry((tuple.object.clone(), tuple.relation.clone())).or_default().push(tuple.subject.clone());
            objects.entry((tuple.subject.clone(), tuple.relation.clone())).or_default().push(tuple.object.clone());
        }
        Self { workspace, epoch, revision, installation_revision, tuples, subjects, objects }
    }

    /// Facts of a workspace that does not exist yet: the only thing that they permit is to make it.
    pub fn none_yet(workspace: WorkspaceId) -> Self {
        Self::new(workspace, (0, 0, 0), [])
    }

    /// Whose facts these are.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The epoch and the revision at which they were true.
    pub fn at(&self) -> (i64, i64) {
        (self.epoch, self.revision)
    }

    /// The revision of the installation's own facts that were read with them.
    pub fn installation_revision(&self) -> i64 {
        self.installation_revision
    }

    /// Whether the fact is there.
    pub fn holds(&self, object: &str, relation: &str, subject: &str) -> bool {
        self.tuples.contains(&Tuple::new(object, relation, subject))
    }

    /// Who stands in the relation to the object.
    pub fn subjects(&self, object: &str, relation: &str) -> &[String] {
        self.subjects.get(&(object.to_owned(), relation.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// To what the subject stands in the relation.
    pub fn objects(&self, subject: &str, relation: &str) -> &[String] {
        self.objects.get(&(subject.to_owned(), relation.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.tuples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tuples.is_empty()
    }
}
