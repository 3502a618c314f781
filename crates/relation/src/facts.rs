//! Facts as tuples, and the questions that the rules put to them.

use std::collections::{BTreeSet, HashMap};

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
    tuples: usize,
    subjects: Index,
    objects: Index,
}

/// By a name and a relation, the names at its other end: sorted, each once.
type Index = HashMap<String, HashMap<String, Vec<String>>>;

fn found<'a>(index: &'a Index, name: &str, relation: &str) -> &'a [String] {
    index.get(name).and_then(|relations| relations.get(relation)).map_or(&[], Vec::as_slice)
}

impl Facts {
    /// Facts that were read together with their revision.
    pub fn new(
        workspace: WorkspaceId,
        (epoch, revision, installation_revision): (i64, i64, i64),
        tuples: impl IntoIterator<Item = Tuple>,
    ) -> Self {
        let tuples: BTreeSet<Tuple> = tuples.into_iter().collect();
        let (mut subjects, mut objects) = (Index::new(), Index::new());
        let count = tuples.len();
        // In the tuples' own order both ends come sorted: the subjects of an object, and the objects of a subject.
        for Tuple { object, relation, subject } in tuples {
            let of = objects.entry(subject.clone()).or_default().entry(relation.clone()).or_default();
            of.push(object.clone());
            subjects.entry(object).or_default().entry(relation).or_default().push(subject);
        }
        Self { workspace, epoch, revision, installation_revision, tuples: count, subjects, objects }
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
        self.subjects(object, relation).binary_search_by(|known| known.as_str().cmp(subject)).is_ok()
    }

    /// Who stands in the relation to the object.
    pub fn subjects(&self, object: &str, relation: &str) -> &[String] {
        found(&self.subjects, object, relation)
    }

    /// To what the subject stands in the relation.
    pub fn objects(&self, subject: &str, relation: &str) -> &[String] {
        found(&self.objects, subject, relation)
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.tuples
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tuples == 0
    }
}
