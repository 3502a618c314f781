//! What a role is worth: how a key stands to each permission by its role alone, and with everything granted to it that can be. For tables
//! that people read and audits walk; nobody is let in by it.

use std::sync::Arc;

use domain::id::{Id, InstallationId, WorkspaceId};

use crate::{
    action::Listed, facts::Facts, permit::OBJECT, query::QueryError, relationship::Relationship, schema::Schema,
};

/// The roles of API keys, as the model names them.
pub const ROLES: [&str; 4] = ["admin", "support_agent", "user", "service"];

/// How a role stands to a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has it.
    May,
    /// It sees the object, and has it not.
    Refused,
    /// It does not even see the object, unless something else concerns it with it.
    Unseen,
}

impl Standing {
    /// The word for tables and audits.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::May => "may",
            Self::Refused => "refused",
            Self::Unseen => "unseen",
        }
    }
}

/// A workspace with two keys of each role, and one object of each kind in it: granted to one of the two.
pub struct Example(Facts);

/// The example's object of a type; a blueprint's objects are as the house's own.
fn example(of: &str) -> String {
    match of {
        "workspace" => format!("workspace:{}", WorkspaceId::from_uuid(InstallationId::ONE.uuid())),
        "installation" => format!("installation:{}", InstallationId::ONE),
        OBJECT => "folder:any".to_owned(),
        of => format!("{of}:any"),
    }
}

impl Example {
    /// An example under a model.
    pub fn new(schema: &Arc<Schema>) -> Self {
        let workspace = WorkspaceId::from_uuid(InstallationId::ONE.uuid());
        let (here, connection) = (example("workspace"), example("connection"));
        let roles = ROLES.iter().flat_map(|role| {
            let granted = format!("api_key:granted_{role}");
            [
                Relationship::new(&here, *role, format!("api_key:{role}")),
                Relationship::new(&here, *role, &granted),
                Relationship::new(example("mandate"), "grantee", &granted),
                Relationship::new(example(OBJECT), "manager", &granted),
            ]
        });
        let kinds = schema.model().types.iter().map(|kind| kind.name.as_str());
        let kept = kinds.map(|kind| Relationship::new(example(kind), "workspace", &here));
        let mandate = Relationship::new(example("mandate"), "connection", &connection);
        // A tuple that is none of the model counts for nothing: not every type stands in a workspace.
        let tuples = roles.chain(kept).chain([mandate]).collect();
        Self(Facts::new(schema, workspace, (0, 0, 0), tuples).unwrap_or_else(|_| Facts::none_yet(schema, workspace)))
    }

    /// How a role by itself stands to a permission.
    ///
    /// # Errors
    /// [`QueryError`] where the model does not have what the permission needs.
    pub fn standing(&self, role: &str, permission: &Listed) -> Result<Standing, QueryError> {
        self.of_key(&format!("api_key:{role}"), permission)
    }

    /// How a role stands to a permission on an object that was granted to it: under a mandate, as a manager.
    ///
    /// # Errors
    /// As for [`Example::standing`].
    pub fn granted(&self, role: &str, permission: &Listed) -> Result<Standing, QueryError> {
        self.of_key(&format!("api_key:granted_{role}"), permission)
    }

    fn of_key(&self, key: &str, permission: &Listed) -> Result<Standing, QueryError> {
        let object = example(permission.object);
        let may = permission.relation.map(|relation| self.0.check(&object, relation, key)).transpose()?;
        Ok(match may {
            Some(true) => Standing::May,
            _ if self.0.check(&object, "can_see", key)? => Standing::Refused,
            _ => Standing::Unseen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{action, permission};

    #[test]
    fn a_role_is_worth_what_the_model_says() {
        let example = Example::new(&permission::own());
        for (name, expected) in [
            ("workspace.read", ["may", "may", "may", "may"]),
            ("audit.read", ["may", "may", "refused", "refused"]),
            ("api_key.manage", ["may", "refused", "refused", "refused"]),
            ("connect_link.create", ["may", "refused", "may", "refused"]),
            ("connection.read", ["may", "may", "unseen", "unseen"]),
            ("mandate.create", ["may", "refused", "unseen", "unseen"]),
            ("act.perform", ["refused", "refused", "unseen", "unseen"]),
            ("operator.list", ["unseen"; 4]),
        ] {
            let listed = action::ALL.iter().find(|listed| listed.name == name).unwrap();
            let said = ROLES.map(|role| example.standing(role, listed).unwrap().as_str());
            assert_eq!(said, expected, "{name}");
        }
        for (name, expected) in [
            ("act.perform", ["may", "refused", "may", "may"]),
            ("connection.read", ["may"; 4]),
            ("mandate.create", ["may", "refused", "refused", "refused"]),
            ("object.manage", ["may"; 4]),
            ("audit.read", ["may", "may", "refused", "refused"]),
        ] {
            let listed = action::ALL.iter().find(|listed| listed.name == name).unwrap();
            assert_eq!(ROLES.map(|role| example.granted(role, listed).unwrap().as_str()), expected, "{name}");
        }
    }

    #[test]
    fn every_permission_has_a_standing() {
        let example = Example::new(&permission::own());
        for listed in action::ALL {
            for role in ROLES {
                assert!(example.standing(role, listed).is_ok(), "{role} {listed:?}");
            }
        }
    }
}
