//! `permissions why`: why somebody may do something, or what he lacks for it. In a workspace by its facts in the database, or by the model
//! and the tuples of a store file.

use std::{path::Path, process::ExitCode};

use domain::{id::WorkspaceId, principal::Principal};
use relation::{
    Snapshot,
    explain::{Explanation, explain},
    query::{Brought, CheckRequest, Limits},
};
use serde_json::{Map, Value, json};
use service::permission::{self, Explained, Question};
use storefile::{Fault, StoreFile};

use crate::cli::{
    args::{ConfigArgs, WhyArgs},
    failure::{Exit, Failure},
    output::Voice,
    serve,
    workspace::refused,
};

/// Answers what is asked, of a store file or of a workspace.
pub(in crate::cli) async fn why(args: &WhyArgs, voice: Voice) -> Result<ExitCode, Failure> {
    match (&args.file, &args.workspace) {
        (Some(file), _) => of_file(file, args, voice),
        (None, Some(workspace)) => of_workspace(workspace, args, &args.config, voice).await,
        // The command line has one of the two.
        (None, None) => Err(Failure::said(Exit::Other, "name a store file, or a workspace with --workspace")),
    }
}

async fn of_workspace(workspace: &str, args: &WhyArgs, config: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let workspace: WorkspaceId = workspace
        .parse()
        .map_err(|error| Failure::because(Exit::Other, format!("`{workspace}` is no workspace"), error))?;
    let question =
        Question { user: Some(args.user.clone()), permission: args.permission.clone(), object: args.object.clone() };
    let (instance, operator) = serve::for_a_moment(config).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let explained = permission::explain(instance.app(), &principal, workspace, &question).await;
    instance.stop().await;
    let explained = explained.map_err(|refusal| refused("the question was not answered", refusal))?;
    let Explained { user, relation, object, explanation, revision } = explained;
    let asked = json!({ "user": user, "relation": relation, "object": object, "revision": revision });
    say(&explanation, asked, voice);
    Ok(Exit::Done.into())
}

fn of_file(file: &Path, args: &WhyArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let faulty = |faults: Vec<Fault>| {
        let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
        Failure::said(Exit::Other, faults.join("\n"))
    };
    let store = StoreFile::open(file, args.allow_external_files).map_err(faulty)?;
    let tuples = Snapshot::new(store.tuples())
        .map_err(|error| Failure::because(Exit::Other, "the tuples cannot be taken", error))?;
    let object = args.object.as_deref().ok_or_else(|| Failure::said(Exit::Other, "name the object with --object"))?;
    let context = args.context.as_deref().map(read_context).transpose()?;
    let brought = Brought { context: context.as_ref(), ..Brought::default() };
    let request = CheckRequest { object, relation: &args.permission, user: &args.user, brought };
    let explanation = explain(store.schema(), &tuples, request, &Limits::default())
        .map_err(|error| Failure::because(Exit::Other, "the question was not answered", error))?;
    say(&explanation, json!({ "user": args.user, "relation": args.permission, "object": object }), voice);
    Ok(Exit::Done.into())
}

fn read_context(text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::because(Exit::Other, "--context is no JSON object", error))
}

/// In one line for programs: the explanation, and what was asked. For people: the explanation alone.
fn say(explanation: &Explanation, asked: Value, voice: Voice) {
    let mut said = explanation.to_json();
    if let (Some(said), Value::Object(asked)) = (said.as_object_mut(), asked) {
        said.extend(asked);
    }
    voice.say(&said, explanation.to_string().trim_end());
}
