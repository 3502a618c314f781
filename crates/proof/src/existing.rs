//! What exists in the place of the document's examples: things of a probe's own, so that what it sends is refused for its own fault and not
//! because nothing is there.
//!
//! Never makes anything itself beside customers: there it is given what the probe has made over HTTP, and what takes a platform is missing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    belongings::Belongings,
    caller::Caller,
    document::{Credential, Operation, Place},
    evidence::Failure,
    ground::Ground,
    owner::{expect, text},
    probe::Target,
};

/// What begins the id of a thing that has no beginning over HTTP alone: it takes a platform.
const OF_A_PLATFORM: [&str; 3] = ["con_", "man_", "act_"];

/// Things that exist, and who may ask for them.
pub struct Existing {
    /// The admin whose things they are.
    pub admin: Caller,
    /// Somebody without a credential.
    pub stranger: Caller,
    /// Without one, the operator's operations are not for this probe.
    operator: Option<Caller>,
    /// By the first letters of an example, what exists.
    real: BTreeMap<&'static str, String>,
}

impl Existing {
    /// The belongings, in the target's workspace.
    ///
    /// # Errors
    /// `Unproven` where the workspace is not told.
    pub async fn among(belongings: &Belongings, target: &Target) -> Result<Self, Failure> {
        let (admin, stranger) = (target.admin.clone(), target.stranger.clone());
        let workspace = expect(&admin.get("/v1/workspace").await?, 200)?;
        let real = [
            ("key_", belongings.key.as_str()),
            ("bud_", &belongings.budget),
            ("obj_", &belongings.object),
            ("rol_", &belongings.template),
            ("ws_", text(&workspace, "/id")),
            ("https://app.example.com/connected", &belongings.return_address),
            // What the document has for a store and for its model.
            ("01K5W8V9S6F7Q8R9T0V1W2X3Y4", &belongings.store),
            ("01K5W8V9S6F7Q8R9T0V1W2X3Y5", &belongings.model),
        ];
        let real = real.into_iter().map(|(like, real)| (like, real.to_owned())).collect();
        Ok(Self { admin, stranger, operator: None, real })
    }

    /// Adds what takes a platform and an operator, of this name: a connection, with a mandate for the admin himself, so that what he sends is
    /// refused for what it is, not for who he is. Returns what an act there was answered.
    ///
    /// # Errors
    /// `Unproven` where one of them is not made.
    pub async fn entrust(&mut self, ground: &Ground, name: &str) -> Result<Value, Failure> {
        let person = format!("prober-of-{name}");
        self.operator = Some(self.stranger.with_key(&ground.operator(&person).await?));
        ground.operate(&["operator", "super-admin", "grant", &person]).await?;
        let actions = ["profile.read", "post.create"];
        let connected = ground.connect(&self.admin, name, &actions).await?;
        let own = own_key(&self.admin).await?;
        let terms = json!({ "connection": connected.connection, "grantee": own, "actions": actions });
        let mandate = expect(&self.admin.post("/v1/mandates", &terms).await?, 201)?;
        let mandate = text(&mandate, "/id").to_owned();
        let (good, key) = (json!({ "text": "of a probe" }), format!("probe-of-{name}"));
        let act = expect(&self.admin.act(&mandate, "post.create", &good, Some(&key)).await?, 200)?;
        let made = text(&act, "/act").to_owned();
        self.real.extend([("con_", connected.connection), ("man_", mandate), ("act_", made)]);
        Ok(act)
    }

    /// What exists in the place of an example; where nothing does, the example.
    pub fn real(&self, example: &str) -> String {
        let known = self.real.iter().find(|(like, _)| example.starts_with(**like));
        known.map_or_else(|| example.to_owned(), |(_, real)| real.clone())
    }

    /// Whether there is something of this kind.
    pub fn has(&self, kind: &str) -> bool {
        self.real.contains_key(kind)
    }

    /// Who may send an operation; nobody, where it is the operator's and none of his persons is here.
    pub fn caller(&self, operation: &Operation) -> Option<&Caller> {
        match operation.credential {
            Credential::None => Some(&self.stranger),
            Credential::ApiKey => Some(&self.admin),
            Credential::OperatorKey => self.operator.as_ref(),
        }
    }

    /// Whether a value, after [`Self::real`], is still a platform's thing that nothing here provides.
    pub fn is_missing(&self, value: &str) -> bool {
        OF_A_PLATFORM.iter().any(|kind| value.starts_with(kind)) && !self.real.values().any(|it| it == value)
    }

    /// The parameter of an operation's path that names what is missing, if one does.
    pub fn missing_in_path<'o>(&self, operation: &'o Operation) -> Option<&'o str> {
        let mut in_path = operation.parameters.iter().filter(|parameter| parameter.place == Place::Path);
        let missing = in_path.find(|parameter| self.is_missing(&self.real(&parameter.example)));
        missing.map(|parameter| parameter.name.as_str())
    }
}

/// The key that calls, by its id: the trail knows who has just made something.
async fn own_key(admin: &Caller) -> Result<String, Failure> {
    let trail = expect(&admin.get("/v1/audit?limit=1").await?, 200)?;
    let who = text(&trail, "/data/0/principal").rsplit(':').next().unwrap_or_default();
    if who.starts_with("key_") {
        return Ok(who.to_owned());
    }
    Err(Failure::unproven(format!("the trail does not say who made something: {trail}")))
}
