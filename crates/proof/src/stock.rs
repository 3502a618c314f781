//! The stock of the walks: what the samples of the table need, made by the ordinary ways of using the product.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::random;
use serde_json::{Value, json};
use url::Url;

use crate::{
    caller::Caller,
    evidence::Failure,
    ground::{Ground, Workspace},
    owner::{RETURN, expect, text},
    routes::{Guard, Route, Values},
};

/// An action that only reads and needs no input, and its path at the platform.
const ACTION: &str = "profile.read";
const PATH: &str = "2/users/me";

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
        for name in route.placeholders() {
            if !values.contains_key(&name) {
                let value = self.make(&name, &values).await?;
                values.insert(name, value);
            }
        }
        Ok((values, browser))
    }

    /// One value for each placeholder of these rows.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub async fn everything(&self, routes: &[Route]) -> Result<Values, Failure> {
        let mut values = Values::new();
        for name in routes.iter().flat_map(Route::placeholders) {
            if !values.contains_key(&name) {
                let value = self.make(&name, &values).await?;
                values.insert(name, value);
            }
        }
        Ok(values)
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
            "budget" => {
                let wanted = json!({ "scope": "workspace", "unit": "acts", "per": "month", "cap": 1_000_000 });
                expect(&admin.post("/v1/budgets", &wanted).await?, 200)?;
                let budgets = expect(&admin.get("/v1/budgets").await?, 200)?;
                let all = budgets.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
                let found = all.iter().find(|known| text(known, "/scope") == "workspace");
                found.map(|budget| text(budget, "/id").to_owned()).unwrap_or_default()
            }
            "code" => {
                let asked = self.ground.ask(admin, &[ACTION], &[ACTION]).await?;
                let back = self.ground.platform().approve(&asked.authorize_url, &self.account)?;
                let home = asked.browser.get(&back).await?;
                query(&Url::parse(home.header("location"))?, "keyholder_code")?
            }
            "token" => last_part(&self.invite().await?),
            "kill_drill" => {
                let wanted = json!({ "reason": "a walk through the routes", "provider": self.idle_provider().await? });
                // Another person than the one who walks: nobody approves what he has proposed himself.
                let name = format!("second.{}", self.person);
                let second = self.operator.with_key(&self.ground.operator(&name).await?);
                text(&expect(&second.post("/v1/installation/kill-drills", &wanted).await?, 201)?, "/id").to_owned()
            }
            "return_url" => {
                // Registered already, where this is not the first.
                admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?;
                RETURN.to_owned()
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
