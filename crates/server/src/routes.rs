//! The table of all routes: what is not in it does not exist, and the audits walk it.
//!
//! A row cannot be without a guard and, behind a key, a permission: see [`crate::route`].

mod objects;
mod plans;

use std::sync::LazyLock;

use serde_json::json;
use service::action::{
    ApproveKillDrill, CreateMandate, Disconnect, InviteOwner, ListKeys, ListWorkspace, ManageBudgets, ManageKeys,
    ManageReturnAddresses, Perform, ProposeKillDrill, PublishStatement, ReadActs, ReadAudit, ReadBudgets,
    ReadConnection, ReadInstallation, ReadKillDrill, ReadMandate, ReadWorkspace, RedeemConnection, RevokeMandate,
};

use crate::{
    api::{
        acts, api_keys, audit, budgets, connect_links, connections, health, kill_drills, mandates, providers, proxy,
        trust_statements, workspace,
    },
    fga, openapi,
    pages::{self, connect, docs, trust},
    route::{
        ObjectFrom::{Body, CallersWorkspace, Installation, Path},
        Record::{Audit, Row},
        Route, any, delete, get, post,
    },
};

static TABLE: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let parts = [
        workspace_routes(),
        connection_routes(),
        mandate_routes(),
        act_routes(),
        account_routes(),
        objects::object_routes(),
        objects::role_template_routes(),
        fga::routes(),
        plans::routes(),
        installation_routes(),
        objects::system_object_routes(),
        public_routes(),
    ];
    parts.into_iter().flatten().collect()
});

/// All routes.
pub fn table() -> &'static [Route] {
    &TABLE
}

fn workspace_routes() -> Vec<Route> {
    vec![
        get("/v1/workspace", "The caller's own workspace")
            .with_key(ReadWorkspace, CallersWorkspace)
            .reads(workspace::get)
            .answers::<workspace::WorkspaceView>(200),
        post("/v1/return-addresses", "Register an address to which browsers may be sent back")
            .with_key(ManageReturnAddresses, CallersWorkspace)
            .leaving(Audit("return_address.registered"), workspace::register_return_address)
            .answers::<workspace::ReturnAddress>(201)
            .sample(|it| it.json(json!({ "url": "https://app.example.com/connected/{fresh}" }))),
        delete("/v1/return-addresses", "Remove a registered address, and end every link that leads there")
            .with_key(ManageReturnAddresses, CallersWorkspace)
            .leaving(Audit("return_address.removed"), workspace::remove_return_address)
            .answers_status(204)
            .sample(|it| it.query("url", "{own_return_url}")),
        get("/v1/providers", "The platforms, and what can be done at each")
            .with_key(ListWorkspace, CallersWorkspace)
            .reads(providers::list)
            .answers_list::<providers::ProviderView>(),
    ]
}

fn connection_routes() -> Vec<Route> {
    vec![
        post("/v1/connect-links", "Make a link by which an owner connects an account")
            .with_key(InviteOwner, CallersWorkspace)
            .leaving(Audit("connect_link.created"), connect_links::create)
            .answers::<connect_links::LinkView>(201)
            .sample(|it| {
                it.json(json!({ "provider": "{provider}", "actions": ["{action}"], "return_url": "{return_url}" }))
            }),
        post("/v1/connections/redeem", "Redeem the one-time code of a new connection")
            .with_key(RedeemConnection, CallersWorkspace)
            .leaving(Audit("connection.redeemed"), connections::redeem)
            .answers::<connections::ConnectionView>(200)
            .sample(|it| it.json(json!({ "code": "{code}" }))),
        get("/v1/connections", "The connections that the caller may know of, newest first")
            .with_key(ListWorkspace, CallersWorkspace)
            .reads(connections::list)
            .answers_list::<connections::ConnectionView>()
            .sample(|it| it.query("limit", "20")),
        get("/v1/connections/{id}", "One connection")
            .with_key(ReadConnection, Path("id"))
            .reads(connections::get)
            .answers::<connections::ConnectionView>(200)
            .sample(|it| it.path("id", "{connection}")),
        get("/v1/connections/{id}/certificate", "What became of a connection that was taken apart")
            .with_key(ReadConnection, Path("id"))
            .reads(connections::certificate)
            .answers::<connections::CertificateView>(200)
            .sample(|it| it.path("id", "{gone_connection}")),
        delete("/v1/connections/{id}", "Revoke a connection at the provider, then delete its credential")
            .with_key(Disconnect, Path("id"))
            .leaving(Audit("connection.disconnected"), connections::disconnect)
            .answers::<connections::CertificateView>(200)
            .sample(|it| it.path("id", "{connection}")),
    ]
}

fn mandate_routes() -> Vec<Route> {
    vec![
        post("/v1/mandates", "Make a mandate within what the owner allowed")
            .with_key(CreateMandate, Body("/connection"))
            .leaving(Audit("mandate.created"), mandates::create)
            .answers::<mandates::MandateView>(201)
            .sample(|it| {
                it.json(json!({
                    "connection": "{connection}",
                    "grantee": "{key}",
                    "actions": ["{action}"],
                    "limits": [{ "unit": "acts", "per": "day", "cap": 3 }],
                    "conditions": { "hours": { "from": "00:00", "to": "23:59" } },
                    "expires_at": "2999-01-01T00:00:00Z",
                }))
            }),
        get("/v1/mandates", "The mandates that the caller may know of, newest first")
            .with_key(ListWorkspace, CallersWorkspace)
            .reads(mandates::list)
            .answers_list::<mandates::MandateView>(),
        get("/v1/mandates/{id}", "One mandate")
            .with_key(ReadMandate, Path("id"))
            .reads(mandates::get)
            .answers::<mandates::MandateView>(200)
            .sample(|it| it.path("id", "{mandate}")),
        post("/v1/mandates/{id}/revoke", "End a mandate at once")
            .with_key(RevokeMandate, Path("id"))
            .leaving(Audit("mandate.revoked"), mandates::revoke)
            .answers::<mandates::RevokedView>(200)
            .sample(|it| it.path("id", "{mandate}").json(json!({ "wait_ms": 1000 }))),
    ]
}

fn act_routes() -> Vec<Route> {
    vec![
        post("/v1/acts", "Act under a mandate")
            .with_key(Perform, Body("/mandate"))
            .leaving(Row("acts"), acts::perform)
            .answers::<acts::AnswerView>(200)
            .sample(|it| {
                it.header("idempotency-key", "{fresh}")
                    .json(json!({ "mandate": "{mandate}", "action": "{action}", "input": {} }))
            }),
        get("/v1/acts", "The acts that the caller may know of, newest first")
            .with_key(ReadActs, CallersWorkspace)
            .reads(acts::list)
            .answers_list::<acts::ActView>(),
        get("/v1/acts/{id}", "One act")
            .with_key(ReadActs, CallersWorkspace)
            .reads(acts::get)
            .answers::<acts::ActView>(200)
            .sample(|it| it.path("id", "{act}")),
        any("/v1/proxy/{mandate}/{*path}", "Act by a request of the platform's own API")
            .with_key(Perform, Path("mandate"))
            .leaving(Row("acts"), proxy::pass)
            .answers_media("application/json")
            .sample(|it| {
                it.method("GET")
                    .path("mandate", "{mandate}")
                    .path("path", "{path}")
                    .header("idempotency-key", "{fresh}")
            }),
    ]
}

fn account_routes() -> Vec<Route> {
    vec![
        post("/v1/api-keys", "Make an API key; its text is answered this once")
            .with_key(ManageKeys, CallersWorkspace)
            .leaving(Audit("api_key.created"), api_keys::create)
            .answers::<api_keys::Created<'static>>(201)
            .sample(|it| it.json(json!({ "label": "an agent", "role": "service" }))),
        get("/v1/api-keys", "The workspace's API keys, newest first")
            .with_key(ListKeys, CallersWorkspace)
            .reads(api_keys::list)
            .answers_list::<api_keys::KeyView>(),
        delete("/v1/api-keys/{id}", "End an API key")
            .with_key(ManageKeys, CallersWorkspace)
            .leaving(Audit("api_key.revoked"), api_keys::revoke)
            .answers_status(204)
            .sample(|it| it.path("id", "{key}")),
        get("/v1/budgets", "The workspace's budgets, and what is used of them")
            .with_key(ReadBudgets, CallersWorkspace)
            .reads(budgets::list)
            .answers_list::<budgets::BudgetView>(),
        post("/v1/budgets", "Set what a workspace, a principal or a connection may use")
            .with_key(ManageBudgets, CallersWorkspace)
            .leaving(Audit("budget.set"), budgets::set)
            .answers::<budgets::BudgetBody>(200)
            .sample(|it| {
                it.json(json!({
                    "scope": "connection", "subject": "{connection}", "unit": "acts", "per": "month", "cap": 1_000_000,
                }))
            }),
        delete("/v1/budgets/{id}", "Remove a budget")
            .with_key(ManageBudgets, CallersWorkspace)
            .leaving(Audit("budget.removed"), budgets::remove)
            .answers_status(204)
            .sample(|it| it.path("id", "{budget}")),
        get("/v1/audit", "What happened in the workspace, newest first")
            .with_key(ReadAudit, CallersWorkspace)
            .reads(audit::list)
            .answers_list::<audit::EntryView>(),
    ]
}

fn installation_routes() -> Vec<Route> {
    vec![
        post("/v1/installation/kill-drills", "Propose to end every connection, or all of one provider")
            .with_operator_key(ProposeKillDrill, Installation)
            .leaving("kill_drill.proposed", kill_drills::propose)
            .answers::<kill_drills::DrillView>(201)
            .sample(|it| {
                it.json(
                    json!({ "reason": "a token of ours was seen where it does not belong", "provider": "{provider}" }),
                )
            }),
        post("/v1/installation/kill-drills/{id}/approve", "Set off a kill drill that another person has proposed")
            .with_operator_key(ApproveKillDrill, Path("id"))
            .leaving("kill_drill.approved", kill_drills::approve)
            .answers::<kill_drills::DrillView>(200)
            .sample(|it| it.path("id", "{kill_drill}")),
        get("/v1/installation/kill-drills", "The kill drills, newest first")
            .with_operator_key(ReadInstallation, Installation)
            .leaving("kill_drill.listed", kill_drills::list)
            .answers_list::<kill_drills::DrillView>(),
        get("/v1/installation/kill-drills/{id}", "One kill drill: its progress, then its certificate")
            .with_operator_key(ReadKillDrill, Path("id"))
            .leaving("kill_drill.read", kill_drills::get)
            .answers::<kill_drills::DrillView>(200)
            .sample(|it| it.path("id", "{kill_drill}")),
        get("/v1/installation/kill-drills/{id}/connections", "The connections of a kill drill, newest first")
            .with_operator_key(ReadKillDrill, Path("id"))
            .leaving("kill_drill.read", kill_drills::connections)
            .answers_list::<kill_drills::LineView>()
            .sample(|it| it.path("id", "{kill_drill}")),
        post("/v1/installation/trust-statements", "Publish a signed statement of what the probes came to")
            .with_operator_key(PublishStatement, Installation)
            .leaving("trust_statement.published", trust_statements::publish)
            .answers::<trust_statements::PublishedView>(201)
            .sample(|it| {
                it.json(json!({
                    "payloadType": "application/vnd.keyholder.trust-statement+json",
                    "payload": "{statement}",
                    "signatures": [{ "sig": "{signature}" }],
                }))
            }),
        get("/v1/installation/audit", "What the operator's persons did in the installation, newest first")
            .with_operator_key(ReadInstallation, Installation)
            .leaving("installation.audit_read", kill_drills::trail)
            .answers_list::<audit::EntryView>(),
    ]
}

fn public_routes() -> Vec<Route> {
    vec![
        get("/connect/{token}", "The page on which an owner sees who asks, and for what")
            .open_to_all("the owner has no account here: the link's token is the credential")
            .for_people()
            .leaving(Row("connect_links"), connect::open)
            .answers_media("text/html")
            .sample(|it| it.path("token", "{token}")),
        post("/connect/{token}", "The owner's choice; leads to the provider's consent page")
            .open_to_all("the link's token and the cookie of the browser that opened it are the credential")
            .for_people()
            .leaving(Audit("connect_link.consented"), connect::consent)
            .answers_status(303)
            .sample(|it| {
                it.path("token", "{token}").header("sec-fetch-site", "same-origin").form(&[("allow", "{action}")])
            }),
        get("/connect/callback/{provider}", "The provider's answer; leads back to the return address")
            .open_to_all("the state and the cookie of the browser that opened the link are the credential")
            .for_people()
            .leaving(Audit("connection.received"), connect::call_back)
            .answers_status(303)
            .sample(|it| it.path("provider", "{provider}").query("state", "{token}").query("code", "{code}")),
        get("/openapi.json", "This API as an OpenAPI document")
            .open_to_all("it describes the API, and says nothing of anybody")
            .reads(openapi::answer)
            .answers_media("application/json"),
        get("/docs", "This API for readers")
            .open_to_all("it describes the API, and says nothing of anybody")
            .for_people()
            .reads(docs::read)
            .answers_media("text/html"),
        get("/trust", "What this installation claims of its security, and what shows it")
            .open_to_all("whoever is to entrust an account may read first what is claimed of it")
            .for_people()
            .reads(trust::read)
            .answers_media("text/html"),
        get("/trust.json", "The trust page as data")
            .open_to_all("the same as the trust page")
            .reads(trust::data)
            .answers::<trust::TrustView>(200),
        get("/trust/statement.json", "The newest signed statement, byte for byte")
            .open_to_all("whoever doubts the trust page verifies the statement himself")
            .reads(trust::statement)
            .answers_media("application/json"),
        get("/.well-known/security.txt", "How a vulnerability is reported (RFC 9116)")
            .open_to_all("whoever has found a vulnerability has no account here")
            .reads(trust::security)
            .answers_media("text/plain"),
        get("/assets/keyholder.css", "The stylesheet of the pages")
            .open_to_all("the same for everybody")
            .reads(pages::style)
            .answers_media("text/css"),
        get("/health/live", "Whether the process lives")
            .open_to_all("a supervisor asks, and learns one word")
            .reads(health::live)
            .answers::<health::Health>(200),
        get("/health/ready", "Whether the process can serve")
            .open_to_all("a load balancer asks, and learns one word")
            .reads(health::ready)
            .answers::<health::Health>(200),
    ]
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
