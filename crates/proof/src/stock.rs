//! The stock of the walks: what the samples of the table need, made by the ordinary ways of using the product.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::random;
use serde_json::{Value, json};
use url::Url;

use crate::{
    belongings::model,
    caller::Caller,
    evidence::Failure,
    ground::{Ground, Workspace},
    owner::{RETURN, expect, text},
    routes::{Guard, Route, Values},
};

/// An action that only reads and needs no input, and its path at the platform.
const ACTION: &str = "profile.read";
const PATH: &str = "2/users/me";

/// What is about the value of another placeholder: who stands how to it, what was answered on it.
const ABOUT_OTHERS: [&str; 4] = ["assignee", "confirm", "relation_model", "viewer"];
/// What stands for a plan and a feature where none is sold.
const NOT_SOLD: &str = "NONE";

/// Everything of one workspace that samples can name, made when it is asked for.
pub struct Stock<'g> {
    ground: &'g Ground,
    /// The workspace, with its admin.
    pub workspace: Workspace,
    /// The id of the admin's key, which is the grantee of the mandates that are made.
    pub admins_key: String,
    /// One of the operator's persons.
    pub operator: Caller,
    /// His name.
    pub person: String,
    /// The account at the platform that is connected.
    pub account: String,
}

impl<'g> Stock<'g> {
    /// An empty workspace, and a person of the operator's beside it.
    ///
    /// # Errors
    /// `Unproven`.
    pub async fn new(ground: &'g Ground, name: &str) -> Result<Self, Failure> {
        let workspace = ground.workspace(name).await?;
        let keys = expect(&workspace.admin.get("/v1/api-keys").await?, 200)?;
        let admins_key = text(&keys, "/data/0/id").to_owned();
        let person =
            format!("{name}-{}", random::token().get(..6).unwrap_or_default()).to_lowercase().replace(['-', '_'], ".");
        let operator = ground.stranger().await?.with_key(&ground.operator(&person).await?);
        // Nobody is without it, and some of the operator's rows are the super-admins' alone.
        ground.operate(&["operator", "super-admin", "grant", &person]).await?;
        let account = format!("{name}_walks");
        ground.platform().open_account(&account, &account);
        Ok(Self { ground, workspace, admins_key, operator, person, account })
    }

    /// Who may send a row's sample.
    pub fn may<'c>(&'c self, route: &Route, browser: &'c Caller) -> &'c Caller {
        match route.guard {
            Guard::ApiKey => &self.workspace.admin,
            Guard::OperatorKey => &self.operator,
            Guard::Public => browser,
        }
    }

    /// New values for a row, and the browser in which a page of it must be opened.
    ///
    /// # Errors
    /// `Unproven` where the sample names something that nothing here provides.
    pub async fn fill(&self, route: &Route) -> Result<(Values, Caller), Failure> {
        let browser = self.workspace.admin.with_no_cookies();
        let mut values = Values::new();
        if route.guard == Guard::Public {
            self.lead(route, &browser, &mut values).await?;
        }
        self.provide(route.placeholders(), &mut values).await?;
        Ok((values, browser))
    }

    /// One value for each placeholder of these rows.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub async fn everything(&self, routes: &[Route]) -> Result<Values, Failure> {
        let mut values = Values::new();
        self.provide(routes.iter().flat_map(Route::placeholders).collect(), &mut values).await?;
        Ok(values)
    }

    /// A value for each name, those last that are about another one's.
    async fn provide(&self, names: BTreeSet<String>, values: &mut Values) -> Result<(), Failure> {
        let (about, rest): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| ABOUT_OTHERS.contains(&name.as_str()));
        for name in rest.into_iter().chain(about) {
            if !values.contains_key(&name) {
                let value = self.make(&name, values).await?;
                values.insert(name, value);
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<String, Failure> {
        Ok(self.ground.connect(&self.workspace.admin, &self.account, &[ACTION]).await?.connection)
    }

    /// A connect link: its path.
    async fn invite(&self) -> Result<String, Failure> {
        let admin = &self.workspace.admin;
        admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?;
        let invitation = json!({ "provider": self.ground.provider(), "actions": [ACTION], "return_url": RETURN });
        let link = expect(&admin.post("/v1/connect-links", &invitation).await?, 201)?;
        Ok(Url::parse(text(&link, "/url"))?.path().to_owned())
    }

    /// A mandate for the admin's own key, which the ledger meters.
    async fn mandate(&self, connection: &str) -> Result<String, Failure> {
        let limits = json!([{ "unit": "acts", "per": "month", "cap": 1_000_000 }]);
        let terms =
            json!({ "connection": connection, "grantee": self.admins_key, "actions": [ACTION], "limits": limits });
        let made = expect(&self.workspace.admin.post("/v1/mandates", &terms).await?, 201)?;
        Ok(text(&made, "/id").to_owned())
    }

    async fn make(&self, name: &str, known: &Values) -> Result<String, Failure> {
        let admin = &self.workspace.admin;
        Ok(match name {
            "connection" => self.connect().await?,
            "gone_connection" => {
                let connection = self.connect().await?;
                self.mandate(&connection).await?;
                expect(&admin.delete(&format!("/v1/connections/{connection}")).await?, 200)?;
                connection
            }
            "mandate" => {
                let connection = match known.get("connection") {
                    Some(connection) => connection.clone(),
                    None => self.connect().await?,
                };
                self.mandate(&connection).await?
            }
            "act" => {
                let mandate = self.mandate(&self.connect().await?).await?;
                text(&expect(&admin.act(&mandate, ACTION, &json!({}), None).await?, 200)?, "/act").to_owned()
            }
            "key" => {
                let wanted = json!({ "label": "of a walk", "role": "service" });
                text(&expect(&admin.post("/v1/api-keys", &wanted).await?, 201)?, "/id").to_owned()
            }
            "budget" => self.budget().await?,
            "code" => {
                let asked = self.ground.ask(admin, &[ACTION], &[ACTION]).await?;
                let back = self.ground.platform().approve(&asked.authorize_url, &self.account)?;
                let home = asked.browser.get(&back).await?;
                query(&Url::parse(home.header("location"))?, "keyholder_code")?
            }
            "token" => last_part(&self.invite().await?),
            "kill_drill" => self.kill_drill().await?,
            "object" => folder(admin, "/v1/objects").await?,
            "system_object" => {
                let path = format!("/v1/installation/workspaces/{}/objects", self.workspace.id);
                folder(&self.operator, &path).await?
            }
            "workspace" => self.workspace.id.clone(),
            "role_template" => role_template(admin).await?,
            "plan" | "feature" => self.sold(name).await?,
            "relation_store" => relation_store(admin).await?.0,
            "viewer" | "assignee" | "confirm" | "relation_model" => self.about(name, known).await?,
            "return_url" => {
                // Registered already, where this is not the first.
                admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?;
                RETURN.to_owned()
            }
            "own_return_url" => {
                let url = format!("https://app.example.com/{}", random::token());
                expect(&admin.post("/v1/return-addresses", &json!({ "url": url })).await?, 201)?;
                url
            }
            // Of the right form, and of nobody: whoever publishes one makes his own.
            "statement" => STANDARD.encode("{}"),
            "signature" => STANDARD.encode([0; 64]),
            "fresh" => random::token().to_lowercase(),
            "provider" => self.ground.provider().to_owned(),
            "action" => ACTION.to_owned(),
            "path" => PATH.to_owned(),
            other => {
                return Err(Failure::unproven(format!("a sample needs {{{other}}}, and nothing here provides it")));
            }
        })
    }

    /// A budget of the workspace that nothing meets.
    async fn budget(&self) -> Result<String, Failure> {
        let admin = &self.workspace.admin;
        let wanted = json!({ "scope": "workspace", "unit": "acts", "per": "month", "cap": 1_000_000 });
        expect(&admin.post("/v1/budgets", &wanted).await?, 200)?;
        let budgets = expect(&admin.get("/v1/budgets").await?, 200)?;
        let all = budgets.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let found = all.iter().find(|known| text(known, "/scope") == "workspace");
        Ok(found.map(|budget| text(budget, "/id").to_owned()).unwrap_or_default())
    }

    /// A kill drill that somebody else than the one who walks has proposed: nobody approves what he has proposed himself.
    async fn kill_drill(&self) -> Result<String, Failure> {
        let wanted = json!({ "reason": "a walk through the routes", "provider": self.idle_provider().await? });
        let name = format!("second.{}", self.person);
        let second = self.operator.with_key(&self.ground.operator(&name).await?);
        let proposed = expect(&second.post("/v1/installation/kill-drills", &wanted).await?, 201)?;
        Ok(text(&proposed, "/id").to_owned())
    }

    /// A plan that is sold here, or a feature that the workspace's plan opens.
    async fn sold(&self, name: &str) -> Result<String, Failure> {
        let known = expect(&self.workspace.admin.get("/v1/plan").await?, 200)?;
        let (feature, plan) = (text(&known, "/features/0/name"), text(&known, "/features/0/plans/0"));
        if feature.is_empty() {
            return Ok(NOT_SOLD.to_owned());
        }
        if name == "plan" {
            return Ok(plan.to_owned());
        }
        let path = format!("/v1/installation/workspaces/{}/plan", self.workspace.id);
        expect(&self.operator.post(&path, &json!({ "plan": plan })).await?, 200)?;
        Ok(feature.to_owned())
    }

    /// Whether a row is about something that the blueprint has none of: then nobody may do it.
    pub fn has_none(values: &Values) -> bool {
        values.values().any(|value| value == NOT_SOLD)
    }

    /// A key that stands how to the known object, or holds the known template; what its change would answer; the known store's model.
    async fn about(&self, name: &str, known: &Values) -> Result<String, Failure> {
        let admin = &self.workspace.admin;
        let of = |name: &str| known.get(name).cloned().unwrap_or_default();
        if name == "confirm" {
            let change = json!({ "name": "Accountant", "permissions": ["budget.read_all"] });
            let shown = admin.post(&format!("/v1/role-templates/{}", of("role_template")), &change).await?;
            return Ok(text(&expect(&shown, 200)?, "/confirm").to_owned());
        }
        if name == "relation_model" {
            let models = admin.get(&format!("/fga/stores/{}/authorization-models", of("relation_store"))).await?;
            return Ok(text(&expect(&models, 200)?, "/authorization_models/0/id").to_owned());
        }
        let wanted = json!({ "label": "of a walk", "role": "service" });
        let key = text(&expect(&admin.post("/v1/api-keys", &wanted).await?, 201)?, "/id").to_owned();
        if name == "viewer" {
            let given = json!({ "relation": "viewer", "subject": key });
            expect(&admin.post(&format!("/v1/objects/{}/relationships", of("object")), &given).await?, 201)?;
        } else {
            let path = format!("/v1/role-templates/{}/assignees", of("role_template"));
            expect(&admin.post(&path, &json!({ "key": key })).await?, 204)?;
        }
        Ok(key)
    }

    /// Waits for the end of what goes on after a row's answer: while a kill drill runs, nothing can be connected.
    ///
    /// # Errors
    /// `Unproven` where it does not end.
    pub async fn settle(&self, route: &Route, values: &Values) -> Result<(), Failure> {
        if !route.path.ends_with("/approve") {
            return Ok(());
        }
        let drill = format!("/v1/installation/kill-drills/{}", values.get("kill_drill").cloned().unwrap_or_default());
        for _ in 0..400 {
            if text(&self.operator.get(&drill).await?.json(), "/state") == "ended" {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Failure::unproven("a kill drill does not end"))
    }

    /// A provider at which nothing is connected, if there is one: a drill there ends nothing.
    async fn idle_provider(&self) -> Result<String, Failure> {
        let listed = expect(&self.workspace.admin.get("/v1/providers").await?, 200)?;
        let names = listed.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let idle = names.iter().map(|it| text(it, "/name").to_owned()).find(|name| name != self.ground.provider());
        Ok(idle.unwrap_or_else(|| self.ground.provider().to_owned()))
    }

    /// Leads the browser to where a public row's sample stands.
    async fn lead(&self, route: &Route, browser: &Caller, values: &mut Values) -> Result<(), Failure> {
        match (route.method.as_str(), route.path.as_str()) {
            ("POST", "/connect/{token}") => {
                let path = self.invite().await?;
                expect_ok(&browser.get(&path).await?)?;
                values.insert("token".to_owned(), last_part(&path));
            }
            ("GET", "/connect/callback/{provider}") => {
                let path = self.invite().await?;
                expect_ok(&browser.get(&path).await?)?;
                let to = browser.submit(&path, &[("allow", ACTION)]).await?;
                let back = Url::parse(&self.ground.platform().approve(to.header("location"), &self.account)?)?;
                values.insert("token".to_owned(), query(&back, "state")?);
                values.insert("code".to_owned(), query(&back, "code")?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A folder, at the top of a workspace; its id.
///
/// # Errors
/// `Unproven` where it is not made.
pub async fn folder(who: &Caller, path: &str) -> Result<String, Failure> {
    let folder = json!({ "type": "folder", "name": "of a walk" });
    Ok(text(&expect(&who.post(path, &folder).await?, 201)?, "/id").to_owned())
}

/// A role template that lets its holders read the trail; its id.
///
/// # Errors
/// `Unproven` where it is not made.
pub async fn role_template(admin: &Caller) -> Result<String, Failure> {
    let bundle = json!({ "name": "Of a walk", "permissions": ["audit.read"] });
    Ok(text(&expect(&admin.post("/v1/role-templates", &bundle).await?, 201)?, "/id").to_owned())
}

/// A store of relations of the workspace's own application, and its model: their ids.
///
/// # Errors
/// `Unproven` where one of them is not made.
pub async fn relation_store(admin: &Caller) -> Result<(String, String), Failure> {
    let store = expect(&admin.post("/fga/stores", &json!({ "name": "of a walk" })).await?, 201)?;
    let store = text(&store, "/id").to_owned();
    let model = admin.post(&format!("/fga/stores/{store}/authorization-models"), &model()).await?;
    Ok((store, text(&expect(&model, 201)?, "/authorization_model_id").to_owned()))
}

fn expect_ok(reply: &crate::caller::Reply) -> Result<(), Failure> {
    if reply.status.is_success() {
        Ok(())
    } else {
        Err(Failure::unproven(format!("a page was answered {}", reply.status)))
    }
}

fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn query(url: &Url, name: &str) -> Result<String, Failure> {
    let found = url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    found.ok_or_else(|| Failure::unproven(format!("an address has no `{name}`")))
}
