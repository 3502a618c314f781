//! The guard: who is let in, in the order of the corridor's first steps, and the only minter of [`Caller`].
//!
//! Identify, enter, permit, and only then the input: 401, 404, 403, 422. A handler cannot be reached past it, since a handler of a
//! guarded route takes a `Caller`.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use axum::extract::{FromRequestParts, RawPathParams, Request};
use domain::{
    id::{Id, InstallationId, RequestId, WorkspaceId},
    principal::Principal,
    problem::Kind,
};
use http::{Extensions, HeaderMap, header, request::Parts};
use service::{
    Action, App, Headroom, Refusal,
    action::{ListWorkspace, OfOperator},
    identify, installation,
};
use url::Url;

use crate::{
    body,
    input::{Arrived, Body, Takes},
    problem::Problem,
    ratelimit::Tally,
    route::ObjectFrom,
};

/// Who is at the other end of a request's connection. The accept loop says it of the connection; the edge puts the client in its place
/// where a named proxy has said for whom it asks (see [`crate::edge`]). From then on it is whom limits and links count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An address, in its canonical form: never an IPv4 address mapped into IPv6.
    Network(IpAddr),
    /// A process on this machine, at the other end of a Unix socket.
    Local,
}

impl Peer {
    /// The address that limits count: a process on this machine is this machine.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Network(address) => address,
            Self::Local => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Whether it is on this machine.
    pub fn is_local(self) -> bool {
        self.address().is_loopback()
    }
}

/// A principal that was let in to do `A` on the route's object. Minted here only.
///
/// ```compile_fail
/// fn forged<A>(principal: domain::principal::Principal) -> keyholder_server::Caller<A> {
///     keyholder_server::Caller { principal, action: std::marker::PhantomData }
/// }
/// ```
#[derive(Debug)]
pub struct Caller<A> {
    principal: Principal,
    action: PhantomData<A>,
}

impl<A> Caller<A> {
    /// Who it is.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Who it is, by value.
    pub(crate) fn into_principal(self) -> Principal {
        self.principal
    }
}

/// Lets a caller in, or does not: credential, membership, permission on the object; then the body is read.
///
/// Where the object's id stands in the body, the body's form is looked at before the permission (it must be), and nothing else of
/// it.
pub(crate) async fn admit<A>(
    app: &App,
    request: Request,
    object: ObjectFrom,
    takes: Takes,
) -> Result<(Caller<A>, Arrived), Problem>
where
    A: Action,
    A::Object: FromStr,
{
    let (mut parts, body) = request.into_parts();
    let principal = who(app, &parts).await?;
    let workspace = principal.workspace().ok_or(Refusal::NotFound)?;
    app.allows::<ListWorkspace>(&principal, workspace).await?;
    let path = captures(&mut parts).await?;
    if let Some(object) = object_before_body(object, workspace, &path)? {
        app.allows::<A>(&principal, object).await?;
    }
    let body = body::read(&parts.headers, body, takes).await?;
    if let Some(object) = object_in_body(object, &body) {
        app.allows::<A>(&principal, object).await?;
    }
    let Parts { method, uri, headers, .. } = parts;
    Ok((Caller { principal, action: PhantomData }, Arrived { method, uri, headers, path, body }))
}

/// Lets one of the operator's persons in, or does not. No other credential is one here, an API key as little as none.
pub(crate) async fn admit_operator<A>(
    app: &App,
    request: Request,
    object: ObjectFrom,
    takes: Takes,
) -> Result<(Caller<A>, Arrived), Problem>
where
    A: OfOperator,
    A::Object: FromStr,
{
    let (mut parts, body) = request.into_parts();
    let request = request_id(&parts)?;
    let Some(text) = bearer(&parts.headers) else { return Err(Problem::new(Kind::Unauthenticated)) };
    let (principal, headroom) = identify::operator_key(app, text, peer(&parts.extensions), request).await?;
    note(&parts.extensions, headroom);
    let path = captures(&mut parts).await?;
    let object = match object {
        ObjectFrom::Path(name) => path.get(name).and_then(|text| text.parse().ok()),
        _ => Some(A::Object::from_uuid(InstallationId::ONE.uuid())),
    };
    installation::allows::<A>(app, &principal, object.ok_or_else(|| Problem::new(Kind::NotFound))?).await?;
    let body = body::read(&parts.headers, body, takes).await?;
    let Parts { method, uri, headers, .. } = parts;
    Ok((Caller { principal, action: PhantomData }, Arrived { method, uri, headers, path, body }))
}

/// Reads a request to a public route.
pub(crate) async fn visit(request: Request, takes: Takes) -> Result<Arrived, Problem> {
    let (mut parts, body) = request.into_parts();
    let path = captures(&mut parts).await?;
    let body = body::read(&parts.headers, body, takes).await?;
    let Parts { method, uri, headers, .. } = parts;
    Ok(Arrived { method, uri, headers, path, body })
}

/// The principal that the request's credential stands for.
async fn who(app: &App, parts: &Parts) -> Result<Principal, Problem> {
    let request = request_id(parts)?;
    let Some(text) = bearer(&parts.headers) else { return Err(Problem::new(Kind::Unauthenticated)) };
    let (principal, headroom) = identify::api_key(app, text, peer(&parts.extensions), request).await?;
    note(&parts.extensions, headroom);
    Ok(principal)
}

/// Leaves what the caller's limit still has for the answer.
fn note(extensions: &Extensions, headroom: Headroom) {
    if let Some(tally) = extensions.get::<Tally>() {
        tally.note(headroom);
    }
}

/// The credential of the one `Authorization` header, where its scheme is `Bearer` (RFC 6750 §2.1). There is no other place for it:
/// an address ends up in logs.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(text.trim())
}

/// The id that the edge gave to this request.
pub(crate) fn request_id(parts: &Parts) -> Result<RequestId, Refusal> {
    parts.extensions.get().copied().ok_or(Refusal::Internal("a request without an id", None))
}

/// The address of the client; a request that came over no connection came from this machine.
pub(crate) fn peer(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().copied().unwrap_or(Peer::Local).address()
}

/// A form is taken only from a page of our own.
///
/// `Sec-Fetch-Site` cannot be set by a page. It counts first, since a browser that was told to send no referrer says
/// `Origin: null` on our own form too (Fetch Standard, "append a request `Origin` header").
pub(crate) fn refuse_foreign_forms(headers: &HeaderMap, public_url: &Url) -> Result<(), Problem> {
    let own = public_url.origin().ascii_serialization();
    let only = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let same = match only("sec-fetch-site") {
        Some(site) => site == "same-origin" || site == "none",
        None => only("origin").is_some_and(|origin| origin.as_bytes() == own.as_bytes()),
    };
    let same = same || domain::sabotaged!(ForeignForms);
    if same { Ok(()) } else { Err(Problem::new(Kind::Forbidden).saying("This form was not sent from its own page.")) }
}

async fn captures(parts: &mut Parts) -> Result<BTreeMap<String, String>, Problem> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|_| Problem::new(Kind::NotFound))?;
    Ok(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The object that is known before the body is read. An id that could not exist is not found.
fn object_before_body<O: FromStr>(
    from: ObjectFrom,
    workspace: WorkspaceId,
    path: &BTreeMap<String, String>,
) -> Result<Option<O>, Problem> {
    let text = match from {
        ObjectFrom::CallersWorkspace => Some(workspace.to_string()),
        ObjectFrom::Path(name) => path.get(name).cloned(),
        ObjectFrom::Body(_) | ObjectFrom::Installation | ObjectFrom::None => return Ok(None),
    };
    let object = text.and_then(|text| text.parse().ok());
    object.map(Some).ok_or_else(|| Problem::new(Kind::NotFound))
}

/// The id at the pointer. Where there is none of the right kind, the input has a fault, and its reader says so.
fn object_in_body<O: FromStr>(from: ObjectFrom, body: &Body) -> Option<O> {
    match (from, body) {
        (ObjectFrom::Body(pointer), Body::Json(value)) => value.pointer(pointer)?.as_str()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::ConnectionId;
    use http::HeaderName;

    type Pairs = &'static [(&'static str, &'static str)];

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn public() -> Url {
        Url::parse("https://keys.example.com/").unwrap()
    }

    #[test]
    fn only_one_bearer_counts() {
        let cases: &[(Pairs, Option<&str>)] = &[
            (&[("authorization", "Bearer kh_x")], Some("kh_x")),
            (&[("authorization", "bearer kh_x")], Some("kh_x")),
            (&[("authorization", "Basic a2g6")], None),
            (&[("authorization", "kh_x")], None),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer b")], None),
            (&[("x-api-key", "kh_x")], None),
            (&[], None),
        ];
        for (given, expected) in cases {
            assert_eq!(bearer(&headers(given)), *expected, "{given:?}");
        }
    }

    #[test]
    fn a_form_comes_from_its_own_page() {
        const OWN: (&str, &str) = ("origin", "https://keys.example.com");
        let cases: &[(Pairs, bool)] = &[
            (&[("sec-fetch-site", "same-origin"), OWN], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[OWN], true),
            (&[("sec-fetch-site", "cross-site"), OWN], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://evil.example")], false),
            (&[], false),
        ];
        for (given, passes) in cases {
            assert_eq!(refuse_foreign_forms(&headers(given), &public()).is_ok(), *passes, "{given:?}");
        }
    }

    #[test]
    fn the_object_comes_from_where_the_row_says() {
        let id = "con_00000000000000000000000000";
        let other = "man_00000000000000000000000000";
        let parsed: ConnectionId = id.parse().unwrap();
        let body = Body::Json(serde_json::json!({ "connection": id, "number": 1, "odd": other }));
        assert_eq!(object_in_body(ObjectFrom::Body("/connection"), &body), Some(parsed));
        assert_eq!(object_in_body::<ConnectionId>(ObjectFrom::Body("/number"), &body), None);
        assert_eq!(object_in_body::<ConnectionId>(ObjectFrom::Body("/odd"), &body), None);
        assert_eq!(object_in_body::<ConnectionId>(ObjectFrom::None, &body), None);
        let path = BTreeMap::from([("id".to_owned(), id.to_owned()), ("odd".to_owned(), other.to_owned())]);
        let workspace: WorkspaceId = domain::id::Id::from_uuid(uuid::Uuid::nil());
        assert_eq!(object_before_body(ObjectFrom::Path("id"), workspace, &path).unwrap(), Some(parsed));
        for nowhere in ["other", "odd"] {
            let found = object_before_body::<ConnectionId>(ObjectFrom::Path(nowhere), workspace, &path);
            assert_eq!(found.unwrap_err().kind(), Kind::NotFound);
        }
        assert_eq!(object_before_body(ObjectFrom::CallersWorkspace, workspace, &path).unwrap(), Some(workspace));
    }
}
