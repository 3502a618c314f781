//! Tuples of which somebody is told before each reading, and may withhold it.

use keyholder_relation::{
    Snapshot,
    tuples::{ReadError, Tuples, User},
};

/// What is read: of an object or of a user, and by which relation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    /// Who stands in a relation to an object.
    Of(u32, String),
    /// To what a user stands in a relation; the user's own relation, where all are meant who have it.
    By(u32, Option<String>, String),
}

/// A snapshot, and who is told.
pub(crate) struct Told<'a, F> {
    pub(crate) kept: &'a Snapshot,
    pub(crate) told: F,
}

impl<F: Fn(Reading) -> Result<(), ReadError>> Tuples for Told<'_, F> {
    type Object = u32;
    type Rows<'a>
        = <Snapshot as Tuples>::Rows<'a>
    where
        Self: 'a;

    fn object(&self, name: &str) -> Result<Option<u32>, ReadError> {
        self.kept.object(name)
    }

    fn name(&self, object: u32) -> &str {
        self.kept.name(object)
    }

    fn tuple<'a>(&'a self, object: u32, relation: &str, user: User<'_, u32>) -> Result<Self::Rows<'a>, ReadError> {
        (self.told)(Reading::Of(object, relation.to_owned()))?;
        self.kept.tuple(object, relation, user)
    }

    fn users<'a>(&'a self, object: u32, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        (self.told)(Reading::Of(object, relation.to_owned()))?;
        self.kept.users(object, relation)
    }

    fn usersets<'a>(&'a self, object: u32, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        (self.told)(Reading::Of(object, relation.to_owned()))?;
        self.kept.usersets(object, relation)
    }

    fn objects<'a>(&'a self, user: User<'_, u32>, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        (self.told)(Reading::By(user.object, user.relation.map(str::to_owned), relation.to_owned()))?;
        self.kept.objects(user, relation)
    }
}
