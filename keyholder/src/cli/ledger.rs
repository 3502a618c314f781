//! `ledger raise-epochs`: what an operator says after a restore that no node could see.
//!
//! Decides nothing about single acts: what became of an ambiguous one is found at the platform.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    args::ConfigArgs,
    failure::{Exit, Failure},
    output::Voice,
    serve,
};

#[derive(Serialize)]
struct Raised {
    workspaces: u64,
    ambiguous: u64,
}

/// Raises all epochs.
pub(super) async fn raise_epochs(args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, _) = serve::for_a_moment(args).await?;
    let raised = service::ledger::raise_epochs(instance.app()).await;
    instance.stop().await;
    let raised = raised.map_err(|refusal| {
        Failure::because(Exit::Database, "not all epochs were raised; run this again, or start a node", refusal)
    })?;
    let outcome = Raised { workspaces: raised.workspaces, ambiguous: raised.acts };
    let words = format!(
        "A new epoch has begun for {} workspaces; {} acts that were under way are ambiguous.",
        outcome.workspaces, outcome.ambiguous
    );
    voice.say(&outcome, &words);
    Ok(Exit::Done.into())
}
