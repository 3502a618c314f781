//! From a file's tree to a provider: identity, hosts, authorization, account and limits.
//!
//! Every rule that a single value must keep to is here or in `read_action`; rules between values of different actions
//! are in `lint`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use url::{Host, Url};

use super::{
    Account, Auth, AuthKind, ClientAuth, Fault, Pkce, Provider, Refresh, Replay, RequestLimits, RevokeEnds, catalogue,
    fault::{At, Faults},
    lint,
    place::Pointer,
    read_action,
    section::{Entry, Section},
    tree::{self, Kind, Table},
};

/// What endpoints and actions may refer to. What could not be read is `None`: its absence is a fault already, and every
/// reference to it need not be one more.
pub(super) struct Declared {
    /// By name, with the place of each.
    pub(super) hosts: Option<BTreeMap<String, At>>,
    pub(super) scopes: Option<BTreeSet<String>>,
    pub(super) request_bytes: usize,
}

impl Declared {
    pub(super) fn may_have_host(&self, host: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains_key(host))
    }

    fn may_have_scope(&self, scope: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.contains(scope))
    }
}

pub(super) fn provider(file: &str, text: &str) -> Result<Provider, Vec<Fault>> {
    let mut faults = Faults::new(file, text);
    let tree = tree::read(0, &mut faults).and_then(|table| on_its_base(table, &mut faults));
    let provider = tree.and_then(|table| whole(&table, &mut faults));
    if !faults.is_empty() {
        return Err(faults.into_sorted());
    }
    provider.and_then(Provider::digested).ok_or_else(|| {
        // Whatever gives no provider has told why; that it did is not left to trust.
        faults.add(At { source: 0, offset: 0 }, "", "cannot be read as a provider");
        faults.into_sorted()
    })
}

/// Lays a file that extends another over it. What names a provider is never inherited: an owner must not be shown
/// another's name, and a template's extension is a template only if it says so.
fn on_its_base(mut table: Table, faults: &mut Faults<'_>) -> Option<Table> {
    let Some((at, node)) = table.0.remove("extends") else {
        return Some(table);
    };
    let entry = Entry { at, path: "extends".to_owned(), node: &node };
    let wanted = entry.text(faults)?;
    let Some((file, text)) = catalogue::shipped(wanted) else {
        let names: Vec<_> = catalogue::SHIPPED.iter().map(|(name, _, _)| *name).collect();
        entry.fault(faults, format!("must be one of the shipped providers: {}", names.join(", ")));
        return None;
    };
    let source = faults.add_source(file, text);
    let mut base = tree::read(source, faults)?;
    for own in ["name", "title", "template"] {
        base.0.remove(own);
    }
    base.overlay(table);
    Some(base)
}

fn whole(table: &Table, faults: &mut Faults<'_>) -> Option<Provider> {
    let mut root = Section::root(table, 0);
    let named = root.required("name", faults);
    let named_at = named.as_ref().map(|entry| (entry.at, entry.path.clone()));
    let name = named.and_then(|entry| identifier(&entry, faults));
    let title = root.required("title", faults).and_then(|entry| entry.title(faults));
    let template = root.optional("template").map_or(Some(false), |entry| entry.boolean(faults));

    let hosts = root.required("hosts", faults).and_then(|entry| hosts(&entry, template != Some(false), faults));
    let limits = root.required("limits", faults).and_then(|entry| limits(&entry, faults));
    let auth_entry = root.required("auth", faults);
    let mut declared =
        Declared { hosts, scopes: None, request_bytes: limits.as_ref().map_or(0, |limits| limits.request_bytes) };
    let auth = auth_entry.and_then(|entry| auth(&entry, &mut declared, faults));
    let account_entry = root.required("account", faults);
    let actions_entry = root.required("actions", faults);
    root.optional("extends");
    root.finish(faults);

    let of_file = actions_entry.as_ref().map(Entry::keys).unwrap_or_default();
    let actions = actions_entry.map(|entry| read_action::all(&entry, &declared, faults)).unwrap_or_default();
    let account = account_entry.and_then(|entry| account(&entry, &of_file, &actions, faults));
    lint::overlaps(&actions, faults);
    // An endpoint that could not be read would make its host look unused.
    if let Some(auth) = auth.as_ref().filter(|_| faults.is_empty()) {
        lint::unused_hosts(&declared, auth, &actions, faults);
    }
    let (at, path) = named_at?;
    Some(Provider {
        name: name?,
        title: title?,
        template: template?,
        hosts: declared.hosts?.into_keys().collect(),
        auth: auth?,
        account: account?,
        limits: limits?,
        actions: actions.into_iter().map(|read| (read.action.name.clone(), Arc::new(read.action))).collect(),
        digest: [0; 32],
        named_at: faults.one(at, path),
    })
}

fn identifier(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = entry.text(faults)?;
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !letters || name.len() > 32 || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        entry.fault(faults, "must be 1 to 32 of a-z 0-9 -, beginning with a letter and not ending with -");
        return None;
    }
    Some(name.to_owned())
}

/// All hosts that are given, the wrong ones too: that one is wrong is told once, at its own place.
fn hosts(entry: &Entry<'_>, template: bool, faults: &mut Faults<'_>) -> Option<BTreeMap<String, At>> {
    let hosts = entry.texts(faults, 16);
    for (host, item) in &hosts {
        if let Some(words) = refused_host(host, template) {
            item.fault(faults, words);
        }
    }
    if matches!(&entry.node.kind, Kind::List(items) if items.is_empty()) {
        entry.fault(faults, "at least one host is needed");
    }
    (!hosts.is_empty()).then(|| hosts.into_iter().map(|(host, item)| (host.to_owned(), item.at)).collect())
}

/// Why a credential may not be sent to a host of this name, if it may not.
fn refused_host(host: &str, template: bool) -> Option<String> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    if plain.parse::<IpAddr>().is_ok() || matches!(Host::parse(host), Ok(Host::Ipv4(_) | Host::Ipv6(_))) {
        return Some("must be a hostname, not an address".to_owned());
    }
    let label = |label: &str| {
        let letters = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        letters && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let labels: Vec<_> = host.split('.').collect();
    let parsed = matches!(Host::parse(host), Ok(Host::Domain(name)) if name == host);
    if !parsed || host.len() > 253 || labels.len() < 2 || !labels.iter().copied().all(label) {
        return Some("must be an exact public hostname in lower case, such as \"api.x.com\"".to_owned());
    }
    // RFC 6761, RFC 6762, RFC 7686, RFC 8375, and ICANN's reservation of "internal".
    let ends_with = |names: &[&str]| names.iter().any(|name| host == *name || host.ends_with(&format!(".{name}")));
    if ends_with(&["localhost", "local", "internal", "arpa", "onion", "alt"]) {
        return Some("is no name of the public internet".to_owned());
    }
    let reserved = ends_with(&["example", "test", "invalid", "example.com", "example.net", "example.org"]);
    (reserved && !template).then(|| "is reserved for documentation (RFC 2606): only a template may name it".to_owned())
}

fn limits(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<RequestLimits> {
    let mut section = entry.section(faults)?;
    let request = section.required("request_bytes", faults).and_then(|e| e.count(faults, 64..=1_048_576));
    let response = section.required("response_bytes", faults).and_then(|e| e.count(faults, 64..=8_388_608));
    let timeout = section.required("timeout_ms", faults).and_then(|e| e.integer(faults, 100..=60_000));
    let reset = section.optional("reset_header").map(|e| header_name(&e, faults));
    section.finish(faults);
    Some(RequestLimits {
        request_bytes: request?,
        response_bytes: response?,
        timeout_ms: u64::try_from(timeout?).ok()?,
        reset_header: match reset {
            Some(name) => Some(name?),
            None => None,
        },
    })
}

/// A header's name (RFC 9110 §5.1), in lower case and of the characters that such names are made of in practice.
fn header_name(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = entry.text(faults)?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        entry.fault(faults, "must be a header's name: 1 to 64 of a-z, 0-9 and -");
        return None;
    }
    Some(name.to_owned())
}

fn auth(entry: &Entry<'_>, declared: &mut Declared, faults: &mut Faults<'_>) -> Option<Auth> {
    let mut section = entry.section(faults)?;
    let kind = section.required("kind", faults).and_then(|e| e.choice(faults, &[("oauth2", AuthKind::OAuth2)]));
    let authorize = section.required("authorize_url", faults).and_then(|e| endpoint(&e, declared, faults));
    let params = section.optional("authorize_params").map(|e| authorize_params(&e, faults)).unwrap_or_default();
    let token = section.required("token_url", faults).and_then(|e| endpoint(&e, declared, faults));
    let revoke = section.optional("revoke_url").and_then(|e| endpoint(&e, declared, faults));
    let revoke_ends = section.optional("revoke_ends").map_or(Some(RevokeEnds::Consent), |e| {
        e.choice(faults, &[("consent", RevokeEnds::Consent), ("account", RevokeEnds::Account)])
    });
    let issuer = section.optional("issuer").and_then(|e| issuer(&e, faults));
    let client_auth = section.required("client_auth", faults).and_then(|e| {
        e.choice(faults, &[("basic", ClientAuth::Basic), ("body", ClientAuth::Body), ("none", ClientAuth::None)])
    });
    let pkce = section.required("pkce", faults).and_then(|e| e.choice(faults, &[("S256", Pkce::S256)]));
    let separators = [(" ", ' '), (",", ',')];
    let separator = section.required("scope_separator", faults).and_then(|e| e.choice(faults, &separators));
    let scopes = section.required("scopes", faults).map(|e| scopes(&e, separator.unwrap_or(' '), faults));
    declared.scopes = scopes.as_ref().map(|scopes| scopes.keys().cloned().collect());
    let always = section.optional("scopes_always").map(|e| declared_scopes(&e, declared, faults)).unwrap_or_default();
    let refresh = section.required("refresh", faults).and_then(|e| refresh(&e, faults));
    section.finish(faults);
    Some(Auth {
        kind: kind?,
        authorize_url: authorize?,
        authorize_params: params,
        token_url: token?,
        revoke_url: revoke,
        revoke_ends: revoke_ends?,
        issuer,
        client_auth: client_auth?,
        pkce: pkce?,
        scope_separator: separator?,
        scopes: scopes?,
        scopes_always: always,
        refresh: refresh?,
    })
}

/// An address that a credential is sent to: HTTPS, the standard port, a declared host, and written in the one way in
/// which it is used.
fn endpoint(entry: &Entry<'_>, declared: &Declared, faults: &mut Faults<'_>) -> Option<String> {
    let text = entry.text(faults)?;
    let Ok(url) = Url::parse(text) else {
        entry.fault(faults, "must be a URL");
        return None;
    };
    let before = faults.len();
    if url.scheme() != "https" {
        entry.fault(faults, "must begin with https://");
    }
    let host = url.host_str().unwrap_or_default();
    if !declared.may_have_host(host) {
        entry.fault(faults, format!("its host {host:?} is not among `hosts`"));
    }
    let extra = !url.username().is_empty() || url.password().is_some() || url.port().is_some();
    if extra || url.query().is_some() || url.fragment().is_some() {
        entry.fault(faults, "may not have a user, a port, a query or a fragment");
    } else if url.as_str() != text {
        entry.fault(faults, format!("must be written as {:?}", url.as_str()));
    }
    (faults.len() == before).then(|| text.to_owned())
}

/// RFC 9207 §2: an https URL without query and fragment, compared letter by letter. It is never called.
fn issuer(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let text = entry.text(faults)?;
    let fit = Url::parse(text).is_ok_and(|url| {
        url.scheme() == "https" && url.host().is_some() && url.query().is_none() && url.fragment().is_none()
    });
    if !fit {
        entry.fault(faults, "must be an https URL without query and fragment");
    }
    fit.then(|| text.to_owned())
}

/// The standard's own parameters are Keyholder's to set: a file that could set `redirect_uri` or `state` could take the
/// code.
fn authorize_params(entry: &Entry<'_>, faults: &mut Faults<'_>) -> BTreeMap<String, String> {
    const OWN: [&str; 12] = [
        "client_id",
        "client_secret",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "response_mode",
        "response_type",
        "scope",
        "state",
    ];
    let mut params = BTreeMap::new();
    for (name, value) in entry.members(faults, 16) {
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if OWN.contains(&name) {
            value.fault(faults, "is set by Keyholder alone");
        } else if name.is_empty() || name.len() > 64 || !letters {
            value.fault(faults, "a parameter's name has 1 to 64 of A-Z a-z 0-9 . _ -");
        } else if let Some(text) = value.text(faults) {
            if text.len() > 256 || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                value.fault(faults, "must be at most 256 printable ASCII characters");
            }
            params.insert(name.to_owned(), text.to_owned());
        }
    }
    params
}

fn scopes(entry: &Entry<'_>, separator: char, faults: &mut Faults<'_>) -> BTreeMap<String, String> {
    let mut scopes = BTreeMap::new();
    for (scope, title) in entry.members(faults, 64) {
        // RFC 6749 §3.3: visible ASCII but for the double quote and the backslash.
        let token = scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if scope.is_empty() || scope.len() > 128 || !token || scope.contains(separator) {
            title.fault(
                faults,
                "is no scope: 1 to 128 visible ASCII characters without quotes, backslashes and the separator",
            );
        }
        scopes.insert(scope.to_owned(), title.title(faults).unwrap_or_default());
    }
    scopes
}

/// A list of scopes, each of which must be among those of `auth.scopes`.
pub(super) fn declared_scopes(entry: &Entry<'_>, declared: &Declared, faults: &mut Faults<'_>) -> BTreeSet<String> {
    let scopes = entry.texts(faults, 64);
    for (scope, item) in scopes.iter().filter(|(scope, _)| !declared.may_have_scope(scope)) {
        item.fault(faults, format!("the scope {scope:?} is not declared in auth.scopes"));
    }
    scopes.into_iter().map(|(scope, _)| scope.to_owned()).collect()
}

fn refresh(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<Refresh> {
    const YEARS_S: i64 = 20 * 366 * 86_400;
    let words =
        [("reuse_detected", Replay::ReuseDetected), ("refused", Replay::Refused), ("repeatable", Replay::Repeatable)];
    let seconds = |e: Entry<'_>, faults: &mut Faults<'_>| {
        e.integer(faults, 60..=YEARS_S).and_then(|seconds| u64::try_from(seconds).ok())
    };
    let mut section = entry.section(faults)?;
    let rotates = section.required("rotates", faults).and_then(|e| e.boolean(faults));
    let replay_entry = section.required("replay", faults);
    let replay = replay_entry.as_ref().and_then(|e| e.choice(faults, &words));
    let access = section.required("access_token_lifetime_s", faults).and_then(|e| seconds(e, faults));
    let refresh = section.optional("refresh_token_lifetime_s").and_then(|e| seconds(e, faults));
    section.finish(faults);
    if let (Some(false), Some(Replay::ReuseDetected | Replay::Refused), Some(e)) = (rotates, replay, &replay_entry) {
        e.fault(faults, "must be \"repeatable\", since a token that does not rotate is never spent");
    }
    Some(Refresh {
        rotates: rotates?,
        replay: replay?,
        access_token_lifetime_s: access?,
        refresh_token_lifetime_s: refresh,
    })
}

fn account(
    entry: &Entry<'_>,
    names: &BTreeSet<&str>,
    actions: &[read_action::Read],
    faults: &mut Faults<'_>,
) -> Option<Account> {
    let mut section = entry.section(faults)?;
    let action_entry = section.required("action", faults);
    let id = section.required("id", faults).and_then(|e| pointer(&e, faults));
    let name = section.required("name", faults).and_then(|e| pointer(&e, faults));
    section.finish(faults);
    let action_entry = action_entry?;
    let action = action_entry.text(faults)?;
    if names.contains(action) {
        lint::account(&action_entry, action, actions, faults);
    } else {
        action_entry.fault(faults, format!("there is no action {action:?}"));
    }
    Some(Account { action: action.to_owned(), id: id?, name: name? })
}

pub(super) fn pointer(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<Pointer> {
    let text = entry.text(faults)?;
    Pointer::parse(text).map_err(|words| entry.fault(faults, words)).ok()
}
