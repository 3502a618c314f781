//! The members of a JSON object, described once: [`members!`] makes of one description the type that a handler takes, its reader, and its
//! schema in the document, so that none of the three can say what the others do not.
//!
//! A member must be there unless its type is an `Option`, and what is not described is refused. What one member must keep to besides is its
//! type's to say ([`FromJson`]); what several must keep to together, their user's.

use utoipa::ToSchema;

use super::{BodySchema, Fields, FromJson, Input, Query, Reader, Takes};

/// What can be a member: whether it may be left out is in its type.
pub(crate) trait Member: Sized {
    /// Reads it. `None` only with a fault.
    fn read(fields: &mut Fields<'_>, from: &mut Reader<'_>, name: &'static str) -> Option<Self>;
}

impl<T: FromJson> Member for T {
    fn read(fields: &mut Fields<'_>, from: &mut Reader<'_>, name: &'static str) -> Option<Self> {
        fields.required(from, name)
    }
}

impl<T: FromJson> Member for Option<T> {
    fn read(fields: &mut Fields<'_>, from: &mut Reader<'_>, name: &'static str) -> Option<Self> {
        Some(fields.optional(from, name))
    }
}

/// An object that [`members!`] has described.
pub(crate) trait Members: FromJson + ToSchema + Send + 'static {
    /// Its schema.
    const SHAPE: BodySchema;
}

/// A handler that takes the body as it is described.
impl<B: Members> Input for B {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(B::SHAPE);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.whole()
    }
}

/// A handler that takes what the path names, and a body as it is described.
impl<P: Input, B: Members> Input for (P, B) {
    const TAKES: Takes = Takes::Json;
    const QUERY: Query = P::QUERY;
    const HEADERS: &'static [(&'static str, &'static str)] = P::HEADERS;
    const SCHEMA: Option<BodySchema> = Some(B::SHAPE);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let named = P::read(from);
        let body = from.whole();
        Some((named?, body?))
    }
}

/// A member's name: Rust writes one that is a word of its own with `r#`.
pub(crate) fn name(written: &'static str) -> &'static str {
    written.trim_start_matches("r#")
}

/// Describes the members of an object: `struct Type as NameOfTheSchema { … }`. A member whose type has no schema says one by
/// `#[schema(value_type = …)]`.
macro_rules! members {
    ($(#[$about:meta])* $vis:vis struct $type:ident as $schema:ident {
        $($(#[$of:meta])* $of_vis:vis $member:ident: $kind:ty),+ $(,)?
    }) => {
        $(#[$about])*
        #[derive(::utoipa::ToSchema)]
        #[schema(as = $schema)]
        $vis struct $type {
            $($(#[$of])* $of_vis $member: $kind,)+
        }

        impl $crate::input::FromJson for $type {
            fn from_json(
                value: &::serde_json::Value,
                at: &str,
                from: &mut $crate::input::Reader<'_>,
            ) -> Option<Self> {
                let mut fields = $crate::input::Fields::of(value, at, from)?;
                $(let $member = <$kind as $crate::input::members::Member>::read(
                    &mut fields,
                    from,
                    $crate::input::members::name(stringify!($member)),
                );)+
                fields.finish(from);
                Some(Self { $($member: $member?),+ })
            }
        }

        impl $crate::input::members::Members for $type {
            const SHAPE: $crate::input::BodySchema = (stringify!($schema), $crate::route::collect::<Self>);
        }
    };
}
pub(crate) use members;
