//! Facts: the tuples of one workspace as they were at one revision, under the model by which questions about them are answered.

use std::{collections::HashSet, sync::Arc};

use domain::{
    id::{InstallationId, ObjectId, WorkspaceId},
    object::MOST_OBJECTS,
};

use crate::{
    check,
    explain::{Explanation, explain},
    list_objects::list_said_objects,
    permission::object_types,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, QueryError},
    relationship::{Relationship, is_of_type},
    schema::Schema,
    tuples::{Snapshot, SnapshotFault, Tuples as _},
};

/// How far a question about the house's own facts may go: past every chain of objects that a workspace may have, and far from a
/// noticeable time.
const LIMITS: Limits = Limits { depth: 100, steps: 1_000_000, results: 0, contextual: 0, batch: 0 };

/// The facts of one workspace, as they were at one revision.
#[derive(Debug)]
pub struct Facts {
    workspace: WorkspaceId,
    epoch: i64,
    revision: i64,
    installation_revision: i64,
    schema: Arc<Schema>,
    tuples: Snapshot,
}

impl Facts {
    /// Facts that were read together with their revision. A tuple that is none of the model counts for nothing.
    ///
    /// # Errors
    /// [`SnapshotFault`] for tuples that are not even written as such.
    pub fn new(
        schema: &Arc<Schema>,
        workspace: WorkspaceId,
        (epoch, revision, installation_revision): (i64, i64, i64),
        mut tuples: Vec<Relationship>,
    ) -> Result<Self, SnapshotFault> {
        let turned: Vec<_> = tuples.iter().filter_map(mandate_of_connection).collect();
        tuples.extend(turned);
        tuples.extend(standing(workspace));
        let tuples = Snapshot::new(&tuples)?;
        Ok(Self { workspace, epoch, revision, installation_revision, schema: Arc::clone(schema), tuples })
    }

    /// Facts of a workspace that does not exist yet: they permit to make it, and the operator his own.
    pub fn none_yet(schema: &Arc<Schema>, workspace: WorkspaceId) -> Self {
        let tuples = Snapshot::new(&standing(workspace)).unwrap_or_default();
        Self { workspace, epoch: 0, revision: 0, installation_revision: 0, schema: Arc::clone(schema), tuples }
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

    /// The model.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The tuples.
    pub fn tuples(&self) -> &Snapshot {
        &self.tuples
    }

    /// An object as tuples write it, `folder:obj_…`; none, where there is no such object.
    pub fn object(&self, id: ObjectId) -> Option<String> {
        let known = |name: &String| self.tuples.object(name).is_ok_and(|found| found.is_some());
        object_types(&self.schema).map(|of| format!("{of}:{id}")).find(known)
    }

    /// Whether a user stands in a relation to an object, each written as in tuples.
    ///
    /// # Errors
    /// [`QueryError`] where it cannot be said. Whoever must decide takes it for a no.
    pub fn check(&self, object: &str, relation: &str, user: &str) -> Result<bool, QueryError> {
        check(&self.schema, &self.tuples, CheckRequest { object, relation, user, brought: Brought::default() }, &LIMITS)
    }

    /// To which of a customer's own objects a user stands in a relation, by one search for each of their types: what [`Facts::check`] says of
    /// each of them, without a search for each, and where it cannot say it, a no.
    ///
    /// # Errors
    /// [`QueryError`] where all of them together take more steps than a question has. A part is never taken for the whole.
    pub(crate) fn objects(&self, relation: &str, user: &str) -> Result<HashSet<ObjectId>, QueryError> {
        let most = usize::try_from(MOST_OBJECTS).unwrap_or(usize::MAX);
        let limits = Limits { results: most.saturating_add(1), ..LIMITS };
        let mut all = HashSet::new();
        for object_type in object_types(&self.schema) {
            // Nobody stands in a relation that a type does not have.
            if self.schema.relation_of(object_type, relation).is_err() {
                continue;
            }
            let request = ListObjectsRequest { object_type, relation, user, brought: Brought::default() };
            let found = list_said_objects(&self.schema, &self.tuples, request, &limits)?;
            let ids = found.iter().filter_map(|name| name.split_once(':')?.1.parse::<ObjectId>().ok());
            all.extend(ids);
        }
        if all.len() > most { Err(QueryError::TooComplex) } else { Ok(all) }
    }

    /// Who stands in the relation to the object by a tuple of just these, sorted.
    pub fn subjects(&self, object: &str, relation: &str) -> Vec<&str> {
        let object = self.tuples.object(object).ok().flatten();
        let rows = object.and_then(|object| self.tuples.users(object, relation).ok());
        let mut names: Vec<_> = rows.into_iter().flatten().map(|row| self.tuples.name(row.user.object)).collect();
        names.sort_unstable();
        names
    }

    /// The same, and why; see [`crate::explain`].
    ///
    /// # Errors
    /// As for [`explain()`].
    pub fn explain(&self, object: &str, relation: &str, user: &str) -> Result<Explanation, QueryError> {
        let request = CheckRequest { object, relation, user, brought: Brought::default() };
        explain(&self.schema, &self.tuples, request, &LIMITS)
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.tuples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tuples.is_empty()
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.tuples.bytes()
    }
}

/// What a mandate says of its connection, said of the connection: whoever asks for a connection's grantees finds the mandates there.
fn mandate_of_connection(tuple: &Relationship) -> Option<Relationship> {
    let turns = tuple.relation == "connection" && is_of_type(&tuple.object, "mandate");
    turns.then(|| Relationship::new(tuple.user.clone(), "mandate", tuple.object.clone()))
}

/// What holds of every workspace: that it is in the installation, and that whoever has shown to be at the machine, to be a person of the
/// operator's, or to publish statements for him, is that.
fn standing(workspace: WorkspaceId) -> [Relationship; 4] {
    let installation = format!("installation:{}", InstallationId::ONE);
    [
        Relationship::new(format!("workspace:{workspace}"), "installation", installation.clone()),
        Relationship::new(installation.clone(), "host", "host:*"),
        Relationship::new(installation.clone(), "operator", "operator:*"),
        Relationship::new(installation, "statement_publisher", "statement_publisher:*"),
    ]
}
