//! Roles: what a key of each may, as a product says it to its customers. Written down here a second time: no probe asks the model that it judges.
//!
//! What is not named is an admin's alone, so that a permission that is added is refused to everybody else until somebody says otherwise here.

/// Who comes in below an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A key of an agent of the support.
    SupportAgent,
    /// A key of a user, under no mandate.
    User,
    /// A key of a service, under no mandate.
    Service,
    /// A key of a service with a mandate on the connection that is asked about.
    Grantee,
}

/// Of everybody in the workspace.
const MEMBERS: [&str; 6] =
    ["workspace.read", "workspace.list", "budget.read", "act.read", "plan.read", "permission.explain"];
/// Of whoever looks after it: all that is there, and nothing that changes it.
const LOOKING: [&str; 10] = [
    "audit.read",
    "api_key.list",
    "act.read_all",
    "budget.read_all",
    "connection.read",
    "mandate.read",
    "object.read",
    "permission.explain_all",
    "role_template.list",
    "relation_store.read",
];
/// Of a user beside that.
const USERS: [&str; 1] = ["connect_link.create"];
/// Of a service beside that: its own application's tuples are kept by a back end.
const SERVICES: [&str; 2] = ["relation_store.read", "relation_store.write"];
/// Of whoever has a mandate, on that one and on its connection.
const GRANTED: [&str; 3] = ["connection.read", "mandate.read", "act.perform"];

impl Role {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::SupportAgent => "an agent of the support",
            Self::User => "a user without a mandate",
            Self::Service => "a service without a mandate",
            Self::Grantee => "a service with a mandate",
        }
    }

    /// Whether it has a permission.
    pub fn may(self, permission: &str) -> bool {
        let own: [&[&str]; 2] = match self {
            Self::SupportAgent => [&LOOKING, &[]],
            Self::User => [&USERS, &[]],
            Self::Service => [&SERVICES, &[]],
            Self::Grantee => [&SERVICES, &GRANTED],
        };
        MEMBERS.contains(&permission) || own.iter().any(|some| some.contains(&permission))
    }

    /// Whether it sees only what concerns it, of what everybody may list.
    pub fn sees_its_own(self) -> bool {
        self != Self::SupportAgent
    }

    /// How it is refused what it may not do to something that is there: forbidden (403) where it knows of that, not there (404) where it
    /// does not. The object is what [`crate::routes::Route::object`] calls it; whoever asks for none is asking of the workspace.
    pub fn refusal(self, object: Option<&str>) -> u16 {
        match (self, object) {
            // A mandate shows its connection to its grantee, and nobody else's mandate there.
            (_, None) | (Self::SupportAgent, Some(_)) | (Self::Grantee, Some("connection")) => 403,
            (Self::User | Self::Service | Self::Grantee, Some(_)) => 404,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_named_is_an_admins_alone() {
        for role in [Role::SupportAgent, Role::User, Role::Service, Role::Grantee] {
            assert!(!role.may("thing.invented") && role.may("workspace.read"), "{}", role.words());
            assert_eq!(role.refusal(None), 403);
        }
        assert!(Role::SupportAgent.may("audit.read") && !Role::User.may("audit.read"));
        assert_eq!([Role::SupportAgent, Role::Service].map(|role| role.refusal(Some("connection"))), [403, 404]);
        assert_eq!(["connection", "mandate"].map(|object| Role::Grantee.refusal(Some(object))), [403, 404]);
    }
}
