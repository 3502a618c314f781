//! The rows of objects, of who stands how to them, and of role templates.

use serde_json::json;
use service::action::{
    CreateObject, CreateObjectUnder, ListRelationships, ListRoleTemplates, ListWorkspace, ManageObject,
    ManageRoleTemplates, ManageSystemObjects, ReadObject,
};

use crate::{
    api::{objects, relationships, role_templates},
    route::{
        ObjectFrom::{CallersWorkspace, Path},
        Record::Audit,
        Route, delete, get, post,
    },
};

pub(super) fn object_routes() -> Vec<Route> {
    vec![
        post("/v1/objects", "Make an object at the top of the workspace")
            .with_key(CreateObject, CallersWorkspace)
            .leaving(Audit("object.created"), objects::create)
            .answers::<objects::ObjectView>(201)
            .sample(|it| it.json(json!({ "type": "folder", "name": "Launch" }))),
        get("/v1/objects", "The objects that the caller may know of, newest first")
            .with_key(ListWorkspace, CallersWorkspace)
            .reads(objects::list)
            .answers_list::<objects::ObjectView>()
            .sample(|it| it.query("type", "folder")),
        get("/v1/objects/{id}", "One object")
            .with_key(ReadObject, Path("id"))
            .reads(objects::get)
            .answers::<objects::ObjectView>(200)
            .sample(|it| it.path("id", "{object}")),
        post("/v1/objects/{id}", "Give an object another name")
            .with_key(ManageObject, Path("id"))
            .leaving(Audit("object.renamed"), objects::rename)
            .answers::<objects::ObjectView>(200)
            .sample(|it| it.path("id", "{object}").json(json!({ "name": "Relaunch" }))),
        delete("/v1/objects/{id}", "Remove an object and everything under it")
            .with_key(ManageObject, Path("id"))
            .leaving(Audit("object.removed"), objects::remove)
            .answers_status(204)
            .sample(|it| it.path("id", "{object}")),
        post("/v1/objects/{id}/objects", "Make an object under another")
            .with_key(CreateObjectUnder, Path("id"))
            .leaving(Audit("object.created"), objects::create_under)
            .answers::<objects::ObjectView>(201)
            .sample(|it| it.path("id", "{object}").json(json!({ "type": "folder", "name": "Drafts" }))),
        get("/v1/objects/{id}/relationships", "Who stands how to an object")
            .with_key(ListRelationships, Path("id"))
            .reads(relationships::list)
            .answers_list::<relationships::RelationshipView>()
            .sample(|it| it.path("id", "{object}")),
        post("/v1/objects/{id}/relationships", "Give somebody a relation to an object")
            .with_key(ManageObject, Path("id"))
            .leaving(Audit("relationship.added"), relationships::add)
            .answers::<relationships::RelationshipView>(201)
            .sample(|it| it.path("id", "{object}").json(json!({ "relation": "viewer", "subject": "{key}" }))),
        delete("/v1/objects/{id}/relationships", "Take a relation to an object from somebody")
            .with_key(ManageObject, Path("id"))
            .leaving(Audit("relationship.removed"), relationships::remove)
            .answers_status(204)
            .sample(|it| it.path("id", "{object}").query("relation", "viewer").query("subject", "{viewer}")),
    ]
}

pub(super) fn role_template_routes() -> Vec<Route> {
    vec![
        post("/v1/role-templates", "Make a role template")
            .with_key(ManageRoleTemplates, CallersWorkspace)
            .leaving(Audit("role_template.created"), role_templates::create)
            .answers::<role_templates::TemplateView>(201)
            .sample(|it| it.json(json!({ "name": "Auditor", "permissions": ["audit.read", "budget.read_all"] }))),
        get("/v1/role-templates", "The workspace's role templates, newest first")
            .with_key(ListRoleTemplates, CallersWorkspace)
            .reads(role_templates::list)
            .answers_list::<role_templates::TemplateView>(),
        get("/v1/role-templates/{id}", "One role template, and who holds it")
            .with_key(ListRoleTemplates, CallersWorkspace)
            .reads(role_templates::get)
            .answers::<role_templates::TemplateView>(200)
            .sample(|it| it.path("id", "{role_template}")),
        post("/v1/role-templates/{id}", "Show what a change of a role template changes; confirmed by that, do it")
            .with_key(ManageRoleTemplates, CallersWorkspace)
            .leaving(Audit("role_template.changed"), role_templates::change)
            .answers::<role_templates::ChangeView>(200)
            .sample(|it| {
                it.path("id", "{role_template}")
                    .json(json!({ "name": "Accountant", "permissions": ["budget.read_all"], "confirm": "{confirm}" }))
            }),
        delete("/v1/role-templates/{id}", "Remove a role template, and take it from all who hold it")
            .with_key(ManageRoleTemplates, CallersWorkspace)
            .leaving(Audit("role_template.removed"), role_templates::remove)
            .answers_status(204)
            .sample(|it| it.path("id", "{role_template}")),
        post("/v1/role-templates/{id}/assignees", "Give a role template to an API key")
            .with_key(ManageRoleTemplates, CallersWorkspace)
            .leaving(Audit("role_template.assigned"), role_templates::assign)
            .answers_status(204)
            .sample(|it| it.path("id", "{role_template}").json(json!({ "key": "{key}" }))),
        delete("/v1/role-templates/{id}/assignees/{key}", "Take a role template from an API key")
            .with_key(ManageRoleTemplates, CallersWorkspace)
            .leaving(Audit("role_template.unassigned"), role_templates::unassign)
            .answers_status(204)
            .sample(|it| it.path("id", "{role_template}").path("key", "{assignee}")),
    ]
}

pub(super) fn system_object_routes() -> Vec<Route> {
    vec![
        post("/v1/installation/workspaces/{workspace}/objects", "Make an object of the system's own in a workspace")
            .with_operator_key(ManageSystemObjects, Path("workspace"))
            .leaving("system_object.created", objects::create_system)
            .answers::<objects::ObjectView>(201)
            .sample(|it| {
                it.path("workspace", "{workspace}").json(json!({
                    "type": "folder", "name": "Handbook", "parent": "{system_object}",
                }))
            }),
        delete("/v1/installation/workspaces/{workspace}/objects/{id}", "Remove an object of the system's own")
            .with_operator_key(ManageSystemObjects, Path("workspace"))
            .leaving("system_object.removed", objects::remove_system)
            .answers_status(204)
            .sample(|it| it.path("workspace", "{workspace}").path("id", "{system_object}")),
    ]
}
