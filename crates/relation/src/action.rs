//! The actions that can be permitted, each a type: what it is done to, whether it changes facts, and which relation to its object it needs.
//!
//! An action is named once, here; who stands in its relation is said in `permission/model.fga`. A route, a job or a use case that wants to
//! do something names one of these.

use domain::{
    id::{ConnectionId, Id, InstallationId, KillDrillId, MandateId, ObjectId, WorkspaceId},
    principal::Cause,
};

use crate::permit::type_of;

/// Something that can be permitted.
pub trait Action: Send + Sync + 'static {
    /// What it is done to.
    type Object: Id;
    /// The stable name, for route tables, audits and refusals.
    const NAME: &'static str;
    /// Whether it changes facts: then its transaction raises the head.
    const CHANGES_FACTS: bool;
    /// Whether a permit is void once the workspace has moved on. Only what must finish after a revocation says no.
    const NEEDS_CURRENT_FACTS: bool = true;
    /// The relation to its object that is needed; none where only Keyholder itself may, for a cause that lists it.
    const RELATION: Option<&'static str>;
    /// Whether a cause of Keyholder's own lists this action, on this object.
    fn listed_for(_cause: Cause, _object: Self::Object) -> bool {
        false
    }
}

/// What is told of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its stable name.
    pub name: &'static str,
    /// The type of its objects in the model.
    pub object: &'static str,
    /// The relation that it needs; none where only Keyholder itself may.
    pub relation: Option<&'static str>,
}

impl Listed {
    /// What is told of one.
    pub const fn of<A: Action>() -> Self {
        Self { name: A::NAME, object: type_of::<A::Object>(), relation: A::RELATION }
    }
}

/// `_` is the relation in which nobody stands.
macro_rules! relation {
    (_) => {
        None
    };
    ($relation:literal) => {
        Some($relation)
    };
}

/// Doc, type(object), name, relation, whether it changes facts; then the causes that it is listed for, and whether it may come late.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident($object:ty), $text:literal, $relation:tt, $changes:literal
        $(, system: |$cause:pat_param, $id:ident| $listed:expr)? $(, late: $late:literal)?;)*) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Action for $name {
            type Object = $object;
            const NAME: &'static str = $text;
            const CHANGES_FACTS: bool = $changes;
            const RELATION: Option<&'static str> = relation!($relation);
            $(const NEEDS_CURRENT_FACTS: bool = !$late;)?
            $(fn listed_for(cause: Cause, $id: $object) -> bool {
                match cause {
                    $cause => $listed,
                    _ => false,
                }
            })?
        })*

        /// Every action.
        pub const ALL: &[Listed] =
            &[$(Listed::of::<$name>()),*];
    };
}

actions! {
    /// Makes a workspace.
    CreateWorkspace(WorkspaceId), "workspace.create", "can_create", true;
    /// Makes an API key by the operator's hand.
    IssueKey(WorkspaceId), "api_key.issue", "can_issue_keys", true;
    /// Reads the workspace's own facts.
    ReadWorkspace(WorkspaceId), "workspace.read", "can_read", false;
    /// Makes, lists and revokes API keys.
    ManageKeys(WorkspaceId), "api_key.manage", "can_manage_keys", true;
    /// Lists API keys.
    ListKeys(WorkspaceId), "api_key.list", "can_list_keys", false;
    /// Registers return addresses.
    ManageReturnAddresses(WorkspaceId), "return_address.manage", "can_manage_return_addresses", true;
    /// Sets budgets.
    ManageBudgets(WorkspaceId), "budget.manage", "can_manage_budgets", true;
    /// Reads budgets that concern the caller.
    ReadBudgets(WorkspaceId), "budget.read", "can_read_budgets", false;
    /// Reads the budgets of everybody in the workspace.
    ReadAllBudgets(WorkspaceId), "budget.read_all", "can_read_all_budgets", false;
    /// Reads the audit trail.
    ReadAudit(WorkspaceId), "audit.read", "can_read_audit", false;
    /// Invites an owner to connect an account.
    InviteOwner(WorkspaceId), "connect_link.create", "can_invite_owners", false;
    /// Notes on a link what its browser does.
    FollowLink(WorkspaceId), "connect_link.follow", _, false, system: |Cause::ConnectCallback(_), _object| true;
    /// Seals what an owner brought back from the provider.
    ReceiveCredential(WorkspaceId), "connection.receive", _, true, system: |Cause::ConnectCallback(_), _object| true;
    /// Redeems the one-time code of a new connection.
    RedeemConnection(WorkspaceId), "connection.redeem", "can_redeem_connections", true;
    /// Stores a connection that the operator brings along from elsewhere.
    ImportCredential(WorkspaceId), "connection.import", "can_import_connections", true;
    /// Seals a credential anew, with the hosts of a provider file that the operator has approved.
    ResealCredential(ConnectionId), "credential.reseal", "can_reseal", false, late: true;
    /// Lists what the caller may know of.
    ListWorkspace(WorkspaceId), "workspace.list", "can_list", false;
    /// Reads a connection.
    ReadConnection(ConnectionId), "connection.read", "can_read", false;
    /// Begins to take a connection apart.
    Disconnect(ConnectionId), "connection.disconnect", "can_disconnect", true,
        system: |Cause::Disconnect(connection), object| connection == object;
    /// Reads what must be undone at the provider, and finishes.
    FinishDisconnect(ConnectionId), "connection.finish_disconnect", _, true,
        system: |Cause::Disconnect(connection), object| connection == object;
    /// Opens the old credential for the kill drill.
    OpenForKillDrill(ConnectionId), "credential.kill_drill", _, false,
        system: |Cause::Disconnect(connection), object| connection == object, late: true;
    /// Refreshes a credential.
    Refresh(ConnectionId), "credential.refresh", _, false,
        system: |Cause::Refresh(connection), object| connection == object, late: true;
    /// Stores a refresh's answer that was spilled, and lets the connection live again that waited for its owner meanwhile.
    RecoverCredential(ConnectionId), "credential.recover", _, true,
        system: |Cause::Refresh(connection), object| connection == object;
    /// Gives back to the provider what a renewed consent replaced.
    RevokeRetired(ConnectionId), "credential.revoke_retired", _, false,
        system: |Cause::Retire(connection), object| connection == object, late: true;
    /// Says that only the owner can mend a connection.
    RequireReconnect(ConnectionId), "connection.require_reconnect", _, true,
        system: |Cause::Refresh(connection), object| connection == object;
    /// Makes a mandate on a connection.
    CreateMandate(ConnectionId), "mandate.create", "can_create_mandates", true;
    /// Reads a mandate.
    ReadMandate(MandateId), "mandate.read", "can_read", false;
    /// Ends a mandate.
    RevokeMandate(MandateId), "mandate.revoke", "can_revoke", true;
    /// Acts under a mandate.
    Perform(MandateId), "act.perform", "can_act", false;
    /// Opens the credential for one admitted act: an act admitted before a revocation may finish after it.
    OpenForAct(MandateId), "credential.open", "can_act", false, late: true;
    /// Reads the acts that the caller may know of.
    ReadActs(WorkspaceId), "act.read", "can_read_acts", false, late: true;
    /// Reads the acts of everybody in the workspace.
    ReadAllActs(WorkspaceId), "act.read_all", "can_read_all_acts", false, late: true;
    /// Reads the data key that seals kept answers.
    SealAnswers(WorkspaceId), "answer.seal", _, false, system: |Cause::Sweep, _object| true, late: true;
    /// Ends connections of a workspace because two persons said so.
    StopConnections(WorkspaceId), "kill_drill.stop", _, true, system: |Cause::KillDrill(_), _object| true;
    /// Asks why the caller may do something, or what it lacks.
    ExplainPermission(WorkspaceId), "permission.explain", "can_explain", false;
    /// Asks the same of anybody in the workspace.
    ExplainAllPermissions(WorkspaceId), "permission.explain_all", "can_explain_all", false;
    /// Reads the workspace's plan, and what it opens.
    ReadPlan(WorkspaceId), "plan.read", "can_read_plan", false;
    /// Says which plan a workspace has.
    SetPlan(WorkspaceId), "plan.set", "can_set_plan", true;
    /// Makes and ends the keys of the operator's persons.
    ManageOperators(InstallationId), "operator.manage", "can_manage_operators", true;
    /// Says who is super-admin, and who no longer.
    AppointSuperAdmin(InstallationId), "super_admin.appoint", "can_appoint_super_admins", true;
    /// Lists the operator's persons.
    ListOperators(InstallationId), "operator.list", "can_list_operators", false;
    /// Reads what happened in the installation.
    ReadInstallation(InstallationId), "installation.read", "can_read", false;
    /// Proposes a kill drill.
    ProposeKillDrill(InstallationId), "kill_drill.propose", "can_propose_kill_drills", false;
    /// Reads a kill drill.
    ReadKillDrill(KillDrillId), "kill_drill.read", "can_read_kill_drills", false;
    /// Sets off a kill drill that another person has proposed.
    ApproveKillDrill(KillDrillId), "kill_drill.approve", "can_approve_kill_drills", false;
    /// Writes the certificate of a kill drill that has done its work.
    FinishKillDrill(KillDrillId), "kill_drill.finish", _, false,
        system: |Cause::KillDrill(drill), object| drill == object;
    /// Approves the hosts and endpoints of a provider file.
    ApproveProviderFile(InstallationId), "provider_file.approve", "can_approve_provider_files", false,
        system: |Cause::Configuration, _object| true, late: true;
    /// Publishes a signed statement of what the probes came to.
    PublishStatement(InstallationId), "trust_statement.publish", "can_publish_statements", true;
    /// Wraps a workspace's data keys under the current epoch.
    Rewrap(WorkspaceId), "data_key.rewrap", _, false, system: |Cause::Rotation, _object| true, late: true;
    /// Gives a workspace a new data key, and seals under it what was sealed under older ones.
    Reseal(WorkspaceId), "data_key.rotate", _, false, system: |Cause::Rotation, _object| true, late: true;
    /// Deletes a workspace with everything that is in it.
    ShredWorkspace(WorkspaceId), "workspace.shred", "can_shred", true, late: true;
    /// Makes an object at the top of the workspace.
    CreateObject(WorkspaceId), "object.create", "can_manage_objects", true;
    /// Makes an object under another.
    CreateObjectUnder(ObjectId), "object.create_under", "can_manage", true;
    /// Reads an object.
    ReadObject(ObjectId), "object.read", "can_read", false;
    /// Renames and removes an object, and says who stands how to it.
    ManageObject(ObjectId), "object.manage", "can_manage", true;
    /// Lists who stands how to an object.
    ListRelationships(ObjectId), "object.list_relationships", "can_manage", false;
    /// Makes and removes objects of the system's own in a workspace.
    ManageSystemObjects(WorkspaceId), "system_object.manage", "can_manage_system_objects", true;
    /// Lists role templates, and who holds them.
    ListRoleTemplates(WorkspaceId), "role_template.list", "can_list_role_templates", false;
    /// Makes, changes and removes role templates, and says who holds them.
    ManageRoleTemplates(WorkspaceId), "role_template.manage", "can_manage_role_templates", true;
    /// Asks the workspace's relation stores, and reads what is in them.
    ReadStores(WorkspaceId), "relation_store.read", "can_read_relation_stores", false;
    /// Writes and deletes tuples of the workspace's relation stores. No permit hangs on them.
    WriteTuples(WorkspaceId), "relation_store.write", "can_write_relation_tuples", false;
    /// Makes and deletes relation stores, and writes their models and assertions.
    ManageStores(WorkspaceId), "relation_store.manage", "can_manage_relation_stores", false;
    /// Deletes the rows of a relation store that was deleted.
    PurgeStore(WorkspaceId), "relation_store.purge", _, false, system: |Cause::PurgeStore(_), _object| true, late: true;
}

/// What one of the operator's persons may do by a key of his own: to the installation, or to a workspace of it.
pub trait OfOperator: Action {
    /// The workspace whose facts decide; none where the installation's do.
    fn workspace(_object: Self::Object) -> Option<WorkspaceId> {
        None
    }
}

impl OfOperator for SetPlan {
    fn workspace(object: WorkspaceId) -> Option<WorkspaceId> {
        Some(object)
    }
}

/// What is done to the installation itself, and to no workspace: its permit opens the installation's own rows.
pub trait OfInstallation: Action {}
impl<A: OfInstallation> OfOperator for A {}
impl OfOperator for ManageSystemObjects {
    fn workspace(object: WorkspaceId) -> Option<WorkspaceId> {
        Some(object)
    }
}
impl OfInstallation for AppointSuperAdmin {}
impl OfInstallation for ManageOperators {}
impl OfInstallation for ListOperators {}
impl OfInstallation for ReadInstallation {}
impl OfInstallation for ProposeKillDrill {}
impl OfInstallation for ReadKillDrill {}
impl OfInstallation for ApproveKillDrill {}
impl OfInstallation for FinishKillDrill {}
impl OfInstallation for ApproveProviderFile {}
impl OfInstallation for PublishStatement {}
