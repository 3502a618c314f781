//! Rules between the parts of a provider file: one request, one action; no host that nothing needs; an account that can
//! be read.

use std::collections::BTreeSet;

use url::Url;

use super::{
    Auth,
    action::{Action, Effect},
    fault::Faults,
    read::Declared,
    read_action::Read,
    section::Entry,
};

/// Whether it cannot be ruled out that one request is of both actions. The host does not count: a request that comes
/// for recognition has lost it.
fn may_both_match(one: &Action, other: &Action) -> bool {
    let admits = |action: &Action, param: &str, text: &str| {
        action.field_of_param(param).is_none_or(|(_, field)| field.admits(text))
    };
    one.method == other.method
        && one.path.overlaps(
            &other.path,
            |param, text| admits(one, param, text),
            |param, text| admits(other, param, text),
        )
        && !one.when.excludes(&other.when)
}

/// Two actions that may both match are a fault of both.
pub(super) fn overlaps(actions: &[Read], faults: &mut Faults<'_>) {
    for (index, one) in actions.iter().enumerate() {
        for (_, other) in actions.iter().enumerate().filter(|(place, _)| *place != index) {
            if one.clear && other.clear && may_both_match(&one.action, &other.action) {
                let line = faults.line_of(other.at);
                let how = if one.action.when.is_empty() {
                    "give it a `when`"
                } else {
                    "their `when` do not exclude each other"
                };
                faults.add(
                    one.at,
                    &one.path,
                    format!("a request could be this and also {} ({line}): {how}", other.action.name),
                );
            }
        }
    }
}

/// A host that nothing names is one more place to which a credential could be sent, for nothing.
pub(super) fn unused_hosts(declared: &Declared, auth: &Auth, actions: &[Read], faults: &mut Faults<'_>) {
    let urls = [Some(&auth.authorize_url), Some(&auth.token_url), auth.revoke_url.as_ref()];
    let of_urls = urls.into_iter().flatten().filter_map(|url| Url::parse(url).ok()?.host_str().map(str::to_owned));
    let used: BTreeSet<String> = of_urls.chain(actions.iter().map(|read| read.action.host.clone())).collect();
    for (host, at) in declared.hosts.iter().flatten().filter(|(host, _)| !used.contains(*host)) {
        faults.add(*at, "hosts", format!("no endpoint and no action is at {host:?}"));
    }
}

/// The account is read with nothing but the credential, and reading it changes nothing.
pub(super) fn account(entry: &Entry<'_>, name: &str, actions: &[Read], faults: &mut Faults<'_>) {
    match actions.iter().find(|read| read.action.name == name) {
        Some(read) if read.action.effect != Effect::Read => entry.fault(faults, "must be an action that reads"),
        Some(read) if read.action.input.values().any(|field| field.required) => {
            entry.fault(faults, "must be an action without required input");
        }
        // One that could not be read has told its own faults.
        Some(_) | None => {}
    }
}
