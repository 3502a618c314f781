//! The stock of the matrices: what the samples of the route table need, made new for each of them.

use std::collections::BTreeMap;

use keyholder::{caller::Caller, local::PROVIDER};
use serde_json::json;
use server::{Route, Sample, Verb};
use url::Url;

use super::{is_guarded, operator};
use crate::harness::{ACCOUNT, RETURN, TestApp, ok, query, text};

/// What stands in a sample for an action, and for its path at the platform.
const ACTION: &str = "profile.read";
const PATH: &str = "2/users/me";

pub(crate) type Values = BTreeMap<String, String>;

/// The names of the placeholders in a sample.
pub(super) fn placeholders(sample: &Sample) -> Vec<String> {
    let filled = format!("{:?}", (&sample.path, &sample.query, &sample.headers, &sample.body));
    server::PLACEHOLDERS
        .iter()
        .filter(|(name, ..)| filled.contains(&format!("{{{name}}}")))
        .map(|(name, ..)| (*name).to_owned())
        .collect()
}

/// The id of the key that the test's admin calls with.
fn admins_key(app: &TestApp) -> String {
    app.first.key.to_string()
}

/// A connection with a mandate for a key, which the ledger meters.
pub(super) async fn mandate_for(app: &TestApp, connection: &str, key: &str) -> String {
    let limits = json!([{ "unit": "acts", "per": "month", "cap": 1_000_000 }]);
    let terms = json!({ "connection": connection, "grantee": key, "actions": [ACTION], "limits": limits });
    text(&ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201), "/id").to_owned()
}

/// Provides what a row's sample needs, new: objects of the test's own workspace, whose `grantee` holds the mandates.
pub(crate) struct Stock<'a> {
    pub(crate) app: &'a TestApp,
    /// The caller that the sample is sent by, and the id of its key.
    pub(crate) caller: &'a Caller,
    pub(crate) grantee: String,
}

impl<'a> Stock<'a> {
    pub(crate) fn of_admin(app: &'a TestApp) -> Self {
        Self { app, caller: &app.admin, grantee: admins_key(app) }
    }

    /// Values for a row, and the browser in which a page of it must be opened.
    pub(crate) async fn fill(&self, route: &Route) -> (Values, Caller) {
        let browser = self.app.stranger.with_no_cookies();
        let mut values = Values::new();
        let mut missing = placeholders(&route.sample);
        if !is_guarded(route) {
            self.lead(route, &browser, &mut values).await;
            missing.retain(|name| !values.contains_key(name));
        }
        for name in missing {
            let value = self.make(&name, &mut values).await;
            values.insert(name, value);
        }
        (values, browser)
    }

    async fn make(&self, name: &str, values: &mut Values) -> String {
        if let Some(constant) = self.known(name) {
            return constant;
        }
        if let Some(made) = self.of_a_connection(name, values).await {
            return made;
        }
        if let Some(made) = self.of_objects(name, values).await {
            return made;
        }
        if let Some(made) = self.of_the_workspace(name, values).await {
            return made;
        }
        let made = self.of_the_installation(name, values).await;
        made.unwrap_or_else(|| panic!("a sample needs {name}, and nothing here provides it"))
    }

    /// What is there without being made.
    fn known(&self, name: &str) -> Option<String> {
        Some(match name {
            "workspace" => self.app.first.workspace.to_string(),
            "return_url" => RETURN.to_owned(),
            "fresh" => domain::random::token(),
            "provider" => PROVIDER.to_owned(),
            "action" => ACTION.to_owned(),
            "path" => PATH.to_owned(),
            _ => return None,
        })
    }

    /// Connections, and what is done by them.
    async fn of_a_connection(&self, name: &str, values: &Values) -> Option<String> {
        let app = self.app;
        Some(match name {
            "connection" => app.connect(ACCOUNT, &[ACTION]).await,
            "gone_connection" => {
                let connection = app.connect(ACCOUNT, &[ACTION]).await;
                mandate_for(app, &connection, &self.grantee).await;
                ok(app.admin.delete(&format!("/v1/connections/{connection}")).await.unwrap(), 200);
                connection
            }
            "mandate" => {
                let connection = match values.get("connection") {
                    Some(connection) => connection.clone(),
                    None => app.connect(ACCOUNT, &[ACTION]).await,
                };
                mandate_for(app, &connection, &self.grantee).await
            }
            "act" => {
                let connection = app.connect(ACCOUNT, &[ACTION]).await;
                let mandate = mandate_for(app, &connection, &self.grantee).await;
                let done = self.caller.act(&mandate, ACTION, &json!({}), None).await.unwrap();
                text(&ok(done, 200), "/act").to_owned()
            }
            "code" => {
                let link = app.link(&[ACTION]).await;
                let end = app.consent(&app.stranger.with_no_cookies(), &link, ACCOUNT, &[ACTION]).await;
                query(&end, "keyholder_code").unwrap()
            }
            "token" => app.link(&[ACTION]).await.rsplit('/').next().unwrap().to_owned(),
            _ => return None,
        })
    }

    /// Objects, who stands how to them, and role templates.
    async fn of_objects(&self, name: &str, values: &Values) -> Option<String> {
        let app = self.app;
        Some(match name {
            "object" => {
                let folder = crate::objects::object(&app.admin, "folder", "Launch", None).await;
                // Whoever walks may know of it: what he may not do is then 403, and not 404.
                assert_eq!(crate::objects::relate(&app.admin, &folder, "viewer", &self.grantee).await.status, 201);
                folder
            }
            "viewer" => {
                let key = app.agent().await.1;
                assert_eq!(crate::objects::relate(&app.admin, &values["object"], "viewer", &key).await.status, 201);
                key
            }
            "system_object" => {
                let path = format!("/v1/installation/workspaces/{}/objects", app.first.workspace);
                let wanted = json!({ "type": "folder", "name": "Handbook" });
                text(&ok(operator(app).await.post(&path, &wanted).await.unwrap(), 201), "/id").to_owned()
            }
            "role_template" => crate::role_templates::template(app, "Auditor", &["audit.read"], &[]).await,
            "assignee" => {
                let key = app.agent().await.1;
                crate::role_templates::assign(app, &values["role_template"], &key).await;
                key
            }
            "confirm" => {
                let wanted = json!({ "name": "Accountant", "permissions": ["budget.read_all"] });
                let shown = crate::role_templates::change(app, &values["role_template"], &wanted).await;
                text(&ok(shown, 200), "/confirm").to_owned()
            }
            _ => return None,
        })
    }

    /// What else a workspace has: keys, budgets, a plan, relation stores.
    async fn of_the_workspace(&self, name: &str, values: &mut Values) -> Option<String> {
        let app = self.app;
        Some(match name {
            "key" => app.agent().await.1,
            "own_return_url" => {
                let url = format!("https://app.example.com/{}", domain::random::token());
                ok(app.admin.post("/v1/return-addresses", &json!({ "url": url })).await.unwrap(), 201);
                url
            }
            "budget" => {
                let wanted = json!({ "scope": "workspace", "unit": "acts", "per": "month", "cap": 1_000_000 });
                ok(app.admin.post("/v1/budgets", &wanted).await.unwrap(), 200);
                let budgets = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
                let known = budgets["data"].as_array().unwrap().iter().find(|known| known["scope"] == "workspace");
                text(known.unwrap(), "/id").to_owned()
            }
            "plan" | "feature" => {
                let known = ok(app.admin.get("/v1/plan").await.unwrap(), 200);
                let open = known["features"].as_array().unwrap().iter().find(|it| it["open"] == true).unwrap();
                text(open, if name == "plan" { "/plans/0" } else { "/name" }).to_owned()
            }
            "relation_store" => {
                let (store, model) = crate::fga::stocked(&app.admin).await;
                values.insert("relation_model".to_owned(), model);
                store
            }
            "relation_model" => match values.get(name) {
                Some(model) => model.clone(),
                None => crate::fga::stocked(&app.admin).await.1,
            },
            _ => return None,
        })
    }

    /// What is the operator's: kill drills and statements.
    async fn of_the_installation(&self, name: &str, values: &mut Values) -> Option<String> {
        let app = self.app;
        Some(match name {
            "kill_drill" => {
                // Of a provider where nothing is connected: setting it off ends nothing.
                let wanted = json!({ "reason": "a walk", "provider": "generic-oauth" });
                let proposed = operator(app).await.post("/v1/installation/kill-drills", &wanted).await.unwrap();
                text(&ok(proposed, 201), "/id").to_owned()
            }
            "statement" => {
                let (statement, signature) = crate::trust::sample(app);
                values.insert("signature".to_owned(), signature);
                statement
            }
            "signature" => match values.get(name) {
                Some(signature) => signature.clone(),
                None => crate::trust::sample(app).1,
            },
            _ => return None,
        })
    }

    /// Leads the browser to where a public row's sample stands.
    async fn lead(&self, route: &Route, browser: &Caller, values: &mut Values) {
        match (route.method, route.path) {
            (Verb::Post, "/connect/{token}") => {
                let link = self.app.link(&[ACTION]).await;
                assert_eq!(browser.get(&link).await.unwrap().status, 200);
                values.insert("token".to_owned(), link.rsplit('/').next().unwrap().to_owned());
            }
            (Verb::Get, "/connect/callback/{provider}") => {
                let link = self.app.link(&[ACTION]).await;
                assert_eq!(browser.get(&link).await.unwrap().status, 200);
                let to = browser.submit(&link, &[("allow", ACTION)]).await.unwrap();
                let back = self.app.sandbox.platform().approve(to.header("location"), ACCOUNT).unwrap();
                let back = Url::parse(&back).unwrap();
                values.insert("token".to_owned(), query(&back, "state").unwrap());
                values.insert("code".to_owned(), query(&back, "code").unwrap());
            }
            _ => {}
        }
    }
}

/// One value for every placeholder: everything that the first workspace has.
pub(crate) async fn everything(app: &TestApp) -> Values {
    let stock = Stock::of_admin(app);
    let mut values = Values::new();
    for (name, ..) in server::PLACEHOLDERS {
        let value = stock.make(name, &mut values).await;
        values.insert(name.to_owned(), value);
    }
    values
}
