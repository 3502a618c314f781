//! What probes of custody begin with: a workspace whose owner has entrusted an account, and an agent that acts on it.

use sandbox::IssuedToken;
use serde_json::{Value, json};

use crate::{
    caller::Reply,
    database::Session,
    evidence::{Failure, sha256},
    ground::{Ground, Workspace},
    owner::{Agent, Connected, expect},
    search::Needle,
};

/// A workspace, a connection of it, and an agent with a mandate to post there.
pub struct Entrusted {
    /// The workspace.
    pub workspace: Workspace,
    /// The connection.
    pub connected: Connected,
    /// The agent.
    pub agent: Agent,
}

impl Ground {
    /// Makes a workspace, has this account entrusted to it, and gives an agent the mandate to read its profile and to post.
    ///
    /// # Errors
    /// Where a step of that way is refused.
    pub async fn entrust(&self, account: &str) -> Result<Entrusted, Failure> {
        let workspace = self.workspace(account).await?;
        let actions = ["post.create", "profile.read"];
        let connected = self.connect(&workspace.admin, account, &actions).await?;
        let agent = self.agent(&workspace.admin, &connected.connection, &actions, &json!([])).await?;
        Ok(Entrusted { workspace, connected, agent })
    }

    /// A session of the database's owner.
    ///
    /// # Errors
    /// `Unproven` where there is none.
    pub async fn owner(&self) -> Result<Session, Failure> {
        Ok(Session::open(self.login("owner")?).await?)
    }

    /// Every token that the platform issued for an account, to be looked for.
    pub fn needles(&self, account: &str) -> Vec<Needle> {
        let tokens = self.platform().tokens(account);
        tokens.iter().map(|token| Needle::new(said(account, token), &token.text)).collect()
    }
}

/// A token, in words that may be shown.
fn said(account: &str, token: &IssuedToken) -> String {
    let (kind, life) = (format!("{:?}", token.kind).to_lowercase(), if token.live { "live" } else { "old" });
    format!("the {life} {kind} token of @{account}")
}

impl Entrusted {
    /// Has the agent post a text, under a key of its own.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn try_to_post(&self, words: &str) -> Result<Reply, Failure> {
        let input = json!({ "text": words });
        Ok(self.agent.caller.act(&self.agent.mandate, "post.create", &input, Some(&sha256(words.as_bytes()))).await?)
    }

    /// The same, where nothing stands in its way.
    ///
    /// # Errors
    /// `Unproven` where it is refused, or the platform does not do it.
    pub async fn post(&self, words: &str) -> Result<Value, Failure> {
        let answer = expect(&self.try_to_post(words).await?, 200)?;
        if answer.get("status") == Some(&json!(201)) {
            return Ok(answer);
        }
        Err(Failure::unproven(format!("the platform did not post: {answer}")))
    }

    /// Lets the access token expire at the platform, and posts until it was refreshed: the platform's word comes first, the refresh after.
    ///
    /// # Errors
    /// `Unproven` where it is not.
    pub async fn refresh(&self, ground: &Ground) -> Result<(), Failure> {
        let (platform, before) = (ground.platform(), ground.platform().refreshes());
        platform.expire_access_tokens(&self.connected.account);
        self.try_to_post("refused by the platform").await?;
        self.post("after a refresh").await?;
        if platform.refreshes() > before { Ok(()) } else { Err(Failure::unproven("nothing was refreshed")) }
    }
}
