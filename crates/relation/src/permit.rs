//! The permit, and the one function that mints it.

use std::{fmt, fmt::Write, marker::PhantomData, time::Duration};

use domain::{
    clock::Clock,
    id::{Id, WorkspaceId},
    principal::{Identity, Means, Principal},
};

use crate::{
    action::{Action, Rule},
    facts::Facts,
};

/// How long a permit may be carried before it is spent.
const LIFE: Duration = Duration::from_secs(30);

/// Room for a reference: a kind, a prefix, 26 characters.
const REFERENCE: usize = 48;

/// The rules said yes: this principal may do `A` to this object, by the facts of this revision.
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

/// Asks the rules. This is the only place where permits come from.
///
/// # Errors
/// `NotVisible` where the principal has no relation to the object, `NotAllowed` where it has one, but not the one that is needed.
pub fn authorize<A: Action>(
    facts: &Facts,
    principal: &Principal,
    object: A::Object,
    clock: &Clock,
) -> Result<Permit<A>, Denied> {
    let question = Question::new(facts, principal, object);
    let allowed = match (&principal.identity, A::RULE) {
        (Identity::System(cause), _) => A::listed_for(*cause, object),
        // A key over the network is not a login on the machine, and may nothing that this may.
        (Identity::Operator(_), Rule::Operator) => principal.means == Means::Host,
        (Identity::Operator(_), Rule::NamedOperator) => principal.means == Means::OperatorKey,
        (Identity::Operator(_), _) | (_, Rule::Operator | Rule::NamedOperator | Rule::System) => false,
        (_, rule) => question.meets(rule),
    };
    if !allowed && !domain::sabotaged!(RelationTuples) {
        return Err(if question.is_visible() { Denied::NotAllowed } else { Denied::NotVisible });
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

/// An object as tuples write it: `workspace:ws_…`.
fn reference(object: impl Id) -> String {
    fn kind<I: Id>(_: I) -> &'static str {
        match I::PREFIX {
            "ws" => "workspace",
            "con" => "connection",
            "man" => "mandate",
            prefix => prefix,
        }
    }
    let mut text = String::with_capacity(REFERENCE);
    // A string takes whatever is written to it.
    let _ = write!(text, "{}:{object}", kind(object));
    text
}

struct Question<'a> {
    facts: &'a Facts,
    user: String,
    object: String,
    workspace: String,
}

impl<'a> Question<'a> {
    fn new(facts: &'a Facts, principal: &Principal, object: impl Id) -> Self {
        let workspace = reference(facts.workspace());
        Self { facts, user: principal.reference(), object: reference(object), workspace }
    }

    fn meets(&self, rule: Rule) -> bool {
        // An object that no fact ties to this workspace is another workspace's, or nobody's.
        if !self.is_known() {
            return false;
        }
        match rule {
            Rule::Admin => self.is_admin(),
            Rule::Member => self.is_admin() || self.holds(&self.workspace, "service"),
            Rule::Grantee => self.holds(&self.object, "grantee"),
            Rule::Concerned => self.is_admin() || self.is_owner() || self.is_grantee_here(),
            Rule::AdminOrOwner => self.is_admin() || self.is_owner(),
            Rule::Operator | Rule::NamedOperator | Rule::System => false,
        }
    }

    fn is_visible(&self) -> bool {
        let member = self.object == self.workspace && self.meets(Rule::Member);
        let former = self.is_known() && self.holds(&self.object, "former_grantee");
        member || former || self.meets(Rule::Concerned)
    }

    fn is_known(&self) -> bool {
        let workspace = &self.workspace;
        self.object == *workspace
            || self.facts.holds(&self.object, "workspace", workspace)
            || self.connections().iter().any(|connection| self.facts.holds(connection, "workspace", workspace))
    }

    fn holds(&self, object: &str, relation: &str) -> bool {
        self.facts.holds(object, relation, &self.user)
    }

    fn is_admin(&self) -> bool {
        self.holds(&self.workspace, "admin")
    }

    /// The connections of a mandate.
    fn connections(&self) -> &[String] {
        self.facts.subjects(&self.object, "connection")
    }

    fn is_owner(&self) -> bool {
        self.holds(&self.object, "owner") || self.connections().iter().any(|connection| self.holds(connection, "owner"))
    }

    fn is_grantee_here(&self) -> bool {
        let mandates = self.facts.objects(&self.object, "connection");
        self.holds(&self.object, "grantee") || mandates.iter().any(|mandate| self.holds(mandate, "grantee"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{action, facts::Tuple};
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
            workspace,
            (1, 7, 1),
            [
                Tuple::new(reference(workspace), "admin", admin.reference()),
                Tuple::new(reference(workspace), "service", agent.reference()),
                Tuple::new(reference(workspace), "service", idle.reference()),
                Tuple::new(reference(connection), "workspace", reference(workspace)),
                Tuple::new(reference(mandate), "connection", reference(connection)),
                Tuple::new(reference(mandate), "grantee", agent.reference()),
            ],
        );
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
