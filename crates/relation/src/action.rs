//! The actions that can be permitted, each a type: what it is done to, whether it changes facts, and who may.
//!
//! An action is named once, here. A route, a job or a use case that wants to do something names one of these.

use domain::{
    id::{ConnectionId, Id, InstallationId, KillDrillId, MandateId, WorkspaceId},
    principal::Cause,
};

/// How the rule of an action is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// An admin of the workspace.
    Admin,
    /// Anybody with a role in the workspace.
    Member,
    /// The grantee of the mandate that is the object.
    Grantee,
    /// An admin, the owner of the connection, or a grantee of a mandate on it.
    Concerned,
    /// An admin, or the owner of the connection (of the mandate's connection).
    AdminOrOwner,
    /// Only the operator, at the machine.
    Operator,
    /// Only a person of the operator's who shows a key of his own.
    NamedOperator,
    /// Only Keyholder itself, for a cause that lists it.
    System,
}

impl Rule {
    /// The word for tables and audits.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Grantee => "grantee",
            Self::Concerned => "concerned",
            Self::AdminOrOwner => "admin-or-owner",
            Self::Operator => "operator",
            Self::NamedOperator => "named-operator",
            Self::System => "system",
        }
    }
}

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
    /// Who may.
    const RULE: Rule;
    /// Whether a cause of Keyholder's own lists this action, on this object.
    fn listed_for(_cause: Cause, _object: Self::Object) -> bool {
        false
    }
}

macro_rules! action {
    ($(#[$doc:meta])* $name:ident($object:ty), $text:literal, $rule:expr, $changes:literal $(, system: |$cause:pat_param, $id:ident| $listed:expr)? $(, late: $late:literal)?) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Action for $name {
            type Object = $object;
            const NAME: &'static str = $text;
            const CHANGES_FACTS: bool = $changes;
            const RULE: Rule = $rule;
            $(const NEEDS_CURRENT_FACTS: bool = !$late;)?
            $(fn listed_for(cause: Cause, $id: $object) -> bool {
                match cause {
                    $cause => $listed,
                    _ => false,
                }
            })?
        }
    };
}

action!(/** Makes a workspace. */ CreateWorkspace(WorkspaceId), "workspace.create", Rule::Operator, true);
action!(/** Makes an API key by the operator's hand. */ IssueKey(WorkspaceId), "api_key.issue", Rule::Operator, true);
action!(/** Reads the workspace's own facts. */ ReadWorkspace(WorkspaceId), "workspace.read", Rule::Member, false);
action!(/** Makes, lists and revokes API keys. */ ManageKeys(WorkspaceId), "api_key.manage", Rule::Admin, true);
action!(/** Lists API keys. */ ListKeys(WorkspaceId), "api_key.list", Rule::Admin, false);
action!(/** Registers return addresses. */ ManageReturnAddresses(WorkspaceId), "return_address.manage", Rule::Admin, true);
action!(/** Sets budgets. */ ManageBudgets(WorkspaceId), "budget.manage", Rule::Admin, true);
action!(/** Reads budgets. */ ReadBudgets(WorkspaceId), "budget.read", Rule::Member, false);
action!(/** Reads the audit trail. */ ReadAudit(WorkspaceId), "audit.read", Rule::Admin, false);
action!(/** Invites an owner to connect an account. */ InviteOwner(WorkspaceId), "connect_link.create", Rule::Admin, false);
action!(/** Notes on a link what its browser does. */ FollowLink(WorkspaceId), "connect_link.follow", Rule::System, false,
    system: |Cause::ConnectCallback(_), _object| true);
action!(/** Seals what an owner brought back from the provider. */ ReceiveCredential(WorkspaceId), "connection.receive", Rule::System, true,
    system: |Cause::ConnectCallback(_), _object| true);
action!(/** Redeems the one-time code of a new connection. */ RedeemConnection(WorkspaceId), "connection.redeem", Rule::Admin, true);
action!(/** Stores a connection that the operator brings along from elsewhere. */ ImportCredential(WorkspaceId), "connection.import", Rule::Operator, true);
action!(/** Seals a credential anew, with the hosts of a provider file that the operator has approved. */ ResealCredential(ConnectionId), "credential.reseal", Rule::Operator, false, late: true);
action!(/** Lists what the caller may know of. */ ListWorkspace(WorkspaceId), "workspace.list", Rule::Member, false);
action!(/** Reads a connection. */ ReadConnection(ConnectionId), "connection.read", Rule::Concerned, false);
action!(/** Begins to take a connection apart. */ Disconnect(ConnectionId), "connection.disconnect", Rule::AdminOrOwner, true,
    system: |Cause::Disconnect(connection), object| connection == object);
action!(/** Reads what must be undone at the provider, and finishes. */ FinishDisconnect(ConnectionId), "connection.finish_disconnect", Rule::System, true,
    system: |Cause::Disconnect(connection), object| connection == object);
action!(/** Opens the old credential for the kill drill. */ OpenForKillDrill(ConnectionId), "credential.kill_drill", Rule::System, false,
    system: |Cause::Disconnect(connection), object| connection == object, late: true);
action!(/** Refreshes a credential. */ Refresh(ConnectionId), "credential.refresh", Rule::System, false,
    system: |Cause::Refresh(connection), object| connection == object, late: true);
action!(/** Stores a refresh's answer that was spilled, and lets the connection live again that waited for its owner meanwhile. */
    RecoverCredential(ConnectionId), "credential.recover", Rule::System, true, system: |Cause::Refresh(connection), object| connection == object);
action!(/** Gives back to the provider what a renewed consent replaced. */
    RevokeRetired(ConnectionId), "credential.revoke_retired", Rule::System, false,
    system: |Cause::Retire(connection), object| connection == object, late: true);
action!(/** Says that only the owner can mend a connection. */ RequireReconnect(ConnectionId), "connection.require_reconnect", Rule::System, true,
    system: |Cause::Refresh(connection), object| connection == object);
action!(/** Makes a mandate on a connection. */ CreateMandate(ConnectionId), "mandate.create", Rule::AdminOrOwner, true);
action!(/** Reads a mandate. */ ReadMandate(MandateId), "mandate.read", Rule::Concerned, false);
action!(/** Ends a mandate. */ RevokeMandate(MandateId), "mandate.revoke", Rule::AdminOrOwner, true);
action!(/** Acts under a mandate. */ Perform(MandateId), "act.perform", Rule::Grantee, false);
action!(/** Opens the credential for one admitted act: an act admitted before a revocation may finish after it. */
    OpenForAct(MandateId), "credential.open", Rule::Grantee, false, late: true);
action!(/** Reads the acts that the caller may know of. */ ReadActs(WorkspaceId), "act.read", Rule::Member, false, late: true);
action!(/** Reads the data key that seals kept answers. */ SealAnswers(WorkspaceId), "answer.seal", Rule::System, false,
    system: |Cause::Sweep, _object| true, late: true);
action!(/** Ends connections of a workspace because two persons said so. */ StopConnections(WorkspaceId), "kill_drill.stop", Rule::System, true,
    system: |Cause::KillDrill(_), _object| true);

action!(/** Makes and ends the keys of the operator's persons. */ ManageOperators(InstallationId), "operator.manage", Rule::Operator, true);
action!(/** Lists the operator's persons. */ ListOperators(InstallationId), "operator.list", Rule::Operator, false);
action!(/** Reads what happened in the installation. */ ReadInstallation(InstallationId), "installation.read", Rule::NamedOperator, false);
action!(/** Proposes a kill drill. */ ProposeKillDrill(InstallationId), "kill_drill.propose", Rule::NamedOperator, false);
action!(/** Reads a kill drill. */ ReadKillDrill(KillDrillId), "kill_drill.read", Rule::NamedOperator, false);
action!(/** Sets off a kill drill that another person has proposed. */ ApproveKillDrill(KillDrillId), "kill_drill.approve", Rule::NamedOperator, false);
action!(/** Writes the certificate of a kill drill that has done its work. */ FinishKillDrill(KillDrillId), "kill_drill.finish", Rule::System, false,
    system: |Cause::KillDrill(drill), object| drill == object);

action!(/** Approves the hosts and endpoints of a provider file. */ ApproveProviderFile(InstallationId), "provider_file.approve", Rule::Operator, false,
    system: |Cause::Configuration, _object| true);

action!(/** Publishes a signed statement of what the probes came to. */ PublishStatement(InstallationId), "trust_statement.publish", Rule::NamedOperator, true);

/// What is done to the installation itself, and to no workspace: its permit opens the installation's own rows.
pub trait OfInstallation: Action {}
impl OfInstallation for ManageOperators {}
impl OfInstallation for ListOperators {}
impl OfInstallation for ReadInstallation {}
impl OfInstallation for ProposeKillDrill {}
impl OfInstallation for ReadKillDrill {}
impl OfInstallation for ApproveKillDrill {}
impl OfInstallation for FinishKillDrill {}
impl OfInstallation for ApproveProviderFile {}
impl OfInstallation for PublishStatement {}

action!(/** Wraps a workspace's data keys under the current epoch. */ Rewrap(WorkspaceId), "data_key.rewrap", Rule::System, false,
    system: |Cause::Rotation, _object| true, late: true);
action!(/** Gives a workspace a new data key, and seals under it what was sealed under older ones. */
    Reseal(WorkspaceId), "data_key.rotate", Rule::System, false, system: |Cause::Rotation, _object| true, late: true);
action!(/** Deletes a workspace with everything that is in it. */ ShredWorkspace(WorkspaceId), "workspace.shred", Rule::Operator, true, late: true);
