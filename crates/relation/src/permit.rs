//! The permit, and the one function that mints it.

use std::{collections::HashSet, fmt, fmt::Write, marker::PhantomData, time::Duration};

use domain::{
    clock::Clock,
    id::{Id, InstallationId, ObjectId, WorkspaceId},
    principal::{Identity, Means, Principal},
};

use crate::{action::Action, facts::Facts, query::QueryError};

/// How long a permit may be carried before it is spent.
const LIFE: Duration = Duration::from_secs(30);

/// Room for a reference: a kind, a prefix, 26 characters.
const REFERENCE: usize = 48;

/// The facts said yes: this principal may do `A` to this object, by the facts of this revision.
///
/// Not Clone, short-lived, and spent by value.
/// ```compile_fail
/// fn twice<A: keyholder_relation::Action>(permit: keyholder_relation::Permit<A>) {
///     let copy = permit.clone();
/// }
/// ```
/// ```compile_fail
/// let forged = keyholder_relation::Permit::<keyholder_relation::action::Perform> { ..todo!() };
/// ```
pub struct Permit<A: Action> {
    workspace: WorkspaceId,
    object: A::Object,
    principal: Principal,
    epoch: i64,
    revision: i64,
    installation_revision: i64,
    expires: Duration,
    action: PhantomData<A>,
}

impl<A: Action> fmt::Debug for Permit<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({} on {} for {})", A::NAME, self.object, self.principal)
    }
}

impl<A: Action> Permit<A> {
    /// The workspace in which it holds.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// What it may be done to.
    pub fn object(&self) -> A::Object {
        self.object
    }

    /// Who may.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The epoch and the revision of the facts that said so.
    pub fn at(&self) -> (i64, i64) {
        (self.epoch, self.revision)
    }

    /// The revision of the installation's facts that were read with them.
    pub fn installation_revision(&self) -> i64 {
        self.installation_revision
    }

    /// Whether it may still be spent.
    pub fn is_live(&self, clock: &Clock) -> bool {
        clock.since_boot() < self.expires
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The principal may not even know of the object.
    #[error("not visible to the caller")]
    NotVisible,
    /// The principal knows of the object, and may not.
    #[error("not allowed to the caller")]
    NotAllowed,
}

/// Asks the facts. This is the only place where permits come from.
///
/// # Errors
/// `NotVisible` where the principal cannot see the object, `NotAllowed` where it can, and does not stand in the relation that is needed.
pub fn authorize<A: Action>(
    facts: &Facts,
    principal: &Principal,
    object: A::Object,
    clock: &Clock,
) -> Result<Permit<A>, Denied> {
    let allowed = if let Identity::System(cause) = principal.identity {
        A::listed_for(cause, object)
    } else {
        A::RELATION.is_some_and(|relation| stands(facts, principal, object, relation))
    };
    if !allowed && !domain::sabotaged!(RelationTuples) {
        let sees = stands(facts, principal, object, SEES);
        return Err(if sees { Denied::NotAllowed } else { Denied::NotVisible });
    }
    let (epoch, revision) = facts.at();
    Ok(Permit {
        workspace: facts.workspace(),
        object,
        principal: principal.clone(),
        epoch,
        revision,
        installation_revision: facts.installation_revision(),
        expires: clock.since_boot() + LIFE,
        action: PhantomData,
    })
}

/// To which objects of a customer's own [`authorize`] would permit this, asked of all of them at once. It mints nothing.
///
/// # Errors
/// [`QueryError`] where it cannot be said of all of them; never a part.
pub fn permitted<A: Action<Object = ObjectId>>(
    facts: &Facts,
    principal: &Principal,
) -> Result<HashSet<ObjectId>, QueryError> {
    match user(principal).zip(A::RELATION) {
        Some((user, relation)) => facts.objects(relation, &user),
        None => Ok(HashSet::new()),
    }
}

/// Whoever stands in it may know of an object, whatever he may do.
const SEES: &str = "can_see";

/// Whether a principal stands in a relation to an object. What cannot be said is a no.
fn stands<I: Id>(facts: &Facts, principal: &Principal, object: I, relation: &str) -> bool {
    user(principal)
        .zip(written(facts, object))
        .is_some_and(|(user, object)| facts.check(&object, relation, &user).unwrap_or(false))
}

/// What stands for the type of objects, which their ids do not say.
pub(crate) const OBJECT: &str = "object";

/// The type of the objects of a kind of id, in the model; [`OBJECT`] for those of the types of [`crate::permission::object_types`].
pub(crate) const fn type_of<I: Id>() -> &'static str {
    match I::PREFIX.as_bytes() {
        b"ws" => "workspace",
        b"con" => "connection",
        b"man" => "mandate",
        // A kill drill is the installation's own: what may be done to it is asked there.
        b"ins" | b"kd" => "installation",
        b"obj" => OBJECT,
        _ => I::PREFIX,
    }
}

/// An object as tuples write it. What type one of a customer's own is of, the facts say; none, where they know no such object.
fn written<I: Id>(facts: &Facts, object: I) -> Option<String> {
    if type_of::<I>() == OBJECT {
        return facts.object(ObjectId::from_uuid(object.uuid()));
    }
    Some(reference(object))
}

/// An object as tuples write it, where its id says of what type it is: `workspace:ws_…`.
fn reference<I: Id>(object: I) -> String {
    let mut text = String::with_capacity(REFERENCE);
    // A string takes whatever is written to it.
    let _ = match type_of::<I>() {
        of @ "installation" => write!(text, "{of}:{}", InstallationId::ONE),
        of => write!(text, "{of}:{object}"),
    };
    text
}

/// A principal as the model's user. Whoever is at the machine is the host, by whatever name: a key over the network is not a login on
/// the machine, and may nothing that this may.
fn user(principal: &Principal) -> Option<String> {
    match (&principal.identity, principal.means) {
        (Identity::Operator(_), Means::Host) => Some("host:here".to_owned()),
        (Identity::Operator(_), Means::OperatorKey) => Some(principal.reference()),
        (Identity::Operator(_) | Identity::System(_), _) => None,
        _ => Some(principal.reference()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Relationship, action, permission};
    use domain::{
        id::{ConnectionId, KeyId, MandateId},
        principal::Cause,
    };

    struct House {
        clock: Clock,
        facts: Facts,
        workspace: WorkspaceId,
        connection: ConnectionId,
        mandate: MandateId,
        admin: Principal,
        agent: Principal,
        idle: Principal,
        stranger: Principal,
    }

    fn house() -> House {
        let clock = Clock::system();
        let (workspace, connection) = (WorkspaceId::new(&clock), ConnectionId::new(&clock));
        let mandate = MandateId::new(&clock);
        let key = || Principal::api_key(KeyId::new(&clock), workspace, clock.now());
        let (admin, agent, idle, stranger) = (key(), key(), key(), key());
        let facts = Facts::new(
            &permission::own(),
            workspace,
            (1, 7, 1),
            vec![
                Relationship::new(reference(workspace), "admin", admin.reference()),
                Relationship::new(reference(workspace), "service", agent.reference()),
                Relationship::new(reference(workspace), "service", idle.reference()),
                Relationship::new(reference(connection), "workspace", reference(workspace)),
                Relationship::new(reference(mandate), "connection", reference(connection)),
                Relationship::new(reference(mandate), "grantee", agent.reference()),
            ],
        )
        .unwrap();
        House { clock, facts, workspace, connection, mandate, admin, agent, idle, stranger }
    }

    fn ask<A: Action>(house: &House, principal: &Principal, object: A::Object) -> Result<(), Denied> {
        authorize::<A>(&house.facts, principal, object, &house.clock).map(|_| ())
    }

    #[test]
    fn who_may_do_what() {
        use action::{CreateMandate, ManageKeys, Perform, ReadConnection, ReadMandate, ReadWorkspace, RevokeMandate};
        let h = house();
        let (yes, hidden, no) = (Ok(()), Err(Denied::NotVisible), Err(Denied::NotAllowed));
        for (principal, expected) in [
            (&h.admin, [yes, yes, yes, yes, yes, no, yes]),
            (&h.agent, [yes, no, yes, no, yes, yes, no]),
            (&h.idle, [yes, no, hidden, hidden, hidden, hidden, hidden]),
            (&h.stranger, [hidden; 7]),
        ] {
            let said = [
                ask::<ReadWorkspace>(&h, principal, h.workspace),
                ask::<ManageKeys>(&h, principal, h.workspace),
                ask::<ReadConnection>(&h, principal, h.connection),
                ask::<CreateMandate>(&h, principal, h.connection),
                ask::<ReadMandate>(&h, principal, h.mandate),
                ask::<Perform>(&h, principal, h.mandate),
                ask::<RevokeMandate>(&h, principal, h.mandate),
            ];
            assert_eq!(said, expected, "{principal}");
        }
    }

    #[test]
    fn an_object_of_nowhere_is_not_visible_to_an_admin_either() {
        let h = house();
        assert_eq!(ask::<action::ReadConnection>(&h, &h.admin, ConnectionId::new(&h.clock)), Err(Denied::NotVisible));
        assert_eq!(ask::<action::ManageKeys>(&h, &h.admin, WorkspaceId::new(&h.clock)), Err(Denied::NotVisible));
    }

    #[test]
    fn a_cause_does_only_what_lists_it() {
        let h = house();
        let refresh = Principal::system(Cause::Refresh(h.connection), h.clock.now());
        assert_eq!(ask::<action::Refresh>(&h, &refresh, h.connection), Ok(()));
        assert!(ask::<action::Refresh>(&h, &refresh, ConnectionId::new(&h.clock)).is_err());
        assert!(ask::<action::Disconnect>(&h, &refresh, h.connection).is_err());
        assert!(ask::<action::ManageKeys>(&h, &refresh, h.workspace).is_err());
        assert!(ask::<action::Refresh>(&h, &h.admin, h.connection).is_err());
    }

    #[test]
    fn a_key_of_the_operators_is_no_login_at_the_machine_and_the_other_way_round() {
        use action::{
            ApproveKillDrill, CreateWorkspace, IssueKey, ManageKeys, ManageOperators, Perform, ProposeKillDrill,
        };
        use domain::id::{InstallationId, KillDrillId, OperatorId};
        let h = house();
        let drill = KillDrillId::new(&h.clock);
        let host = Principal::operator("somebody", h.clock.now());
        let named = Principal::named_operator("somebody".to_owned(), OperatorId::new(&h.clock), h.clock.now());
        for (principal, at_machine, by_key) in [(&host, true, false), (&named, false, true), (&h.admin, false, false)] {
            for (allowed, expected) in [
                (ask::<CreateWorkspace>(&h, principal, h.workspace).is_ok(), at_machine),
                (ask::<IssueKey>(&h, principal, h.workspace).is_ok(), at_machine),
                (ask::<ManageOperators>(&h, principal, InstallationId::ONE).is_ok(), at_machine),
                (ask::<ProposeKillDrill>(&h, principal, InstallationId::ONE).is_ok(), by_key),
                (ask::<ApproveKillDrill>(&h, principal, drill).is_ok(), by_key),
            ] {
                assert_eq!(allowed, expected, "{principal} by {:?}", principal.means);
            }
        }
        for principal in [&host, &named] {
            assert!(ask::<ManageKeys>(&h, principal, h.workspace).is_err());
            assert!(ask::<Perform>(&h, principal, h.mandate).is_err());
            assert!(ask::<action::StopConnections>(&h, principal, h.workspace).is_err());
        }
        let drilling = Principal::system(Cause::KillDrill(drill), h.clock.now());
        assert_eq!(ask::<action::StopConnections>(&h, &drilling, h.workspace), Ok(()));
        assert_eq!(ask::<action::FinishKillDrill>(&h, &drilling, drill), Ok(()));
        assert!(ask::<action::FinishKillDrill>(&h, &drilling, KillDrillId::new(&h.clock)).is_err());
        assert!(ask::<action::Disconnect>(&h, &drilling, h.connection).is_err());
        assert!(ask::<ApproveKillDrill>(&h, &drilling, drill).is_err());
    }

    /// A hub with thousands of folders: each stands in it, and whoever sees one sees all by it.
    #[test]
    fn what_is_listed_is_what_each_would_be_permitted_also_around_a_hub() {
        let h = house();
        let (hub, hidden) = (ObjectId::new(&h.clock), ObjectId::new(&h.clock));
        let folder = |id: ObjectId| format!("folder:{id}");
        let around: Vec<_> = (0..2_000).map(|_| ObjectId::new(&h.clock)).collect();
        let mut tuples = vec![
            Relationship::new(reference(h.workspace), "admin", h.admin.reference()),
            Relationship::new(folder(hub), "workspace", reference(h.workspace)),
            Relationship::new(folder(hidden), "workspace", reference(h.workspace)),
            Relationship::new(folder(around[1_000]), "viewer", h.agent.reference()),
        ];
        for one in &around {
            tuples.push(Relationship::new(folder(*one), "workspace", reference(h.workspace)));
            tuples.push(Relationship::new(folder(hub), "viewer", format!("{}#viewer", folder(*one))));
        }
        for one in &around[..1_000] {
            tuples.push(Relationship::new(folder(*one), "viewer", format!("{}#viewer", folder(hub))));
        }
        let facts = Facts::new(&permission::own(), h.workspace, (1, 7, 1), tuples).unwrap();
        let all = || around.iter().chain([&hub, &hidden]).copied();
        for (principal, many) in [(&h.admin, 2_002), (&h.agent, 1_002), (&h.stranger, 0)] {
            let listed = permitted::<action::ReadObject>(&facts, principal).unwrap();
            assert_eq!(listed.len(), many, "{principal}");
            for id in all().step_by(37).chain([hub, hidden, around[1_000]]) {
                let permit = authorize::<action::ReadObject>(&facts, principal, id, &h.clock);
                assert_eq!(listed.contains(&id), permit.is_ok(), "{id} by {principal}");
            }
        }
        let refresh = Principal::system(Cause::Refresh(h.connection), h.clock.now());
        assert_eq!(permitted::<action::ReadObject>(&facts, &refresh).unwrap(), HashSet::new());
    }

    #[test]
    fn a_permit_does_not_keep() {
        let clock = Clock::set(time::OffsetDateTime::UNIX_EPOCH);
        let h = house();
        let permit = authorize::<action::ReadWorkspace>(&h.facts, &h.admin, h.workspace, &clock).unwrap();
        assert!(permit.is_live(&clock));
        clock.advance(LIFE);
        assert!(!permit.is_live(&clock));
    }
}
