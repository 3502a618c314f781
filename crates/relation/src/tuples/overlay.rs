//! Tuples of one question, laid over those that are kept.

use std::iter::Chain;

use super::{ReadError, Snapshot, Tuples};
use crate::relationship::UserRef;

/// Kept tuples, and beside them those that a question brings along.
#[derive(Debug)]
pub(crate) struct Overlay<'t, T> {
    pub(crate) kept: &'t T,
    pub(crate) brought: Snapshot,
}

impl<T: Tuples> Tuples for Overlay<'_, T> {
    type Rows<'a>
        = Chain<<Snapshot as Tuples>::Rows<'a>, T::Rows<'a>>
    where
        Self: 'a;

    fn tuple<'a>(&'a self, object: &str, relation: &str, user: UserRef<'_>) -> Result<Self::Rows<'a>, ReadError> {
        Ok(self.brought.tuple(object, relation, user)?.chain(self.kept.tuple(object, relation, user)?))
    }

    fn users<'a>(&'a self, object: &str, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        Ok(self.brought.users(object, relation)?.chain(self.kept.users(object, relation)?))
    }

    fn usersets<'a>(&'a self, object: &str, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        Ok(self.brought.usersets(object, relation)?.chain(self.kept.usersets(object, relation)?))
    }

    fn objects<'a>(
        &'a self,
        user: UserRef<'_>,
        relation: &str,
        object_type: &str,
    ) -> Result<Self::Rows<'a>, ReadError> {
        let brought = self.brought.objects(user, relation, object_type)?;
        Ok(brought.chain(self.kept.objects(user, relation, object_type)?))
    }
}
