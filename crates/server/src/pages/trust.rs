//! The trust page: what this installation claims, how each claim stands, and what shows it. Nothing on it is written by hand.
//!
//! Everybody may read it, so that it costs little: the database is asked once a second at most, and the page is one rendering.

mod view;

use std::sync::Arc;

use askama::Template;
use axum::response::{IntoResponse, Response};
use domain::{
    claim::Section,
    security_txt,
    statement::Mode,
    trust_page::{Shown, Validity},
};
use http::{HeaderValue, StatusCode, header};
use service::{App, Refusal, trust};
use time::{OffsetDateTime, macros::format_description};

pub(crate) use self::view::TrustView;
use self::view::{AttestationView, ClaimView, ProofView, StatementView};
use super::html;
use crate::{
    answer,
    headers::PagePolicy,
    input::{Input, Query, Reader},
    problem::Problem,
    route::Visit,
};

/// How long a browser or a cache between may show it without asking.
const FRESH: HeaderValue = HeaderValue::from_static("public, max-age=30");

#[derive(Template)]
#[template(path = "trust.html")]
struct TrustPage<'v> {
    view: &'v TrustView,
    sections: Vec<Chapter<'v>>,
    tally: Vec<(&'static str, &'static str, usize)>,
    reports: bool,
}

/// A section of the page.
struct Chapter<'v> {
    id: &'static str,
    title: &'static str,
    claims: Vec<&'v ClaimView>,
}

#[expect(clippy::unused_self, reason = "a template calls what its page has")]
impl TrustPage<'_> {
    /// A moment as people read it.
    fn moment(&self, at: &OffsetDateTime) -> String {
        at.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC")).unwrap_or_default()
    }

    /// What a claim's state means for this claim.
    fn meaning(&self, claim: &ClaimView) -> &'static str {
        match claim.state {
            Shown::Kept => {
                "A probe has tried to break this, on the build that serves here, and could not; without the control it could."
            }
            Shown::Attested => "A person stands behind this by name, until a date. No run has shown it.",
            Shown::UnderReview => {
                "This was kept. The newest run does not show it any more, and the operator has been told."
            }
            Shown::Lapsed => "This was proven once, by a statement that does not count here and now.",
            Shown::Broken => "A probe has found that this does not hold.",
            Shown::Unproven => "No run has shown this yet.",
            Shown::Planned => "This is not claimed yet. What is missing:",
        }
    }

    /// Where a probe ran, in words.
    fn mode(&self, proof: &ProofView) -> &'static str {
        match proof.mode {
            mode if mode == Mode::ProductionSafe.as_str() => {
                "on the server that serves customers, in a workspace of the probe's own"
            }
            mode if mode == Mode::Rehearsal.as_str() => "in a rehearsal: a scratch installation of the same program",
            _ => "on the source and the program file",
        }
    }

    /// Whether the probe was seen to fail, in words.
    fn sabotage(&self, proof: &ProofView) -> &'static str {
        match proof.sabotage_caught {
            Some(true) => "yes: with the control switched off, the probe failed",
            Some(false) => "no: with the control switched off, the probe passed all the same, so it proves nothing",
            None => "not tried with this program, so the probe proves nothing",
        }
    }

    /// Whether a statement counts, in a word or two.
    fn validity(&self, statement: &StatementView) -> &'static str {
        match statement.validity {
            Validity::Current => "in force",
            Validity::Expired => "expired",
            Validity::OtherBuild => "of another build",
            Validity::OtherBlueprint => "of another system",
            Validity::OtherInstallation => "of another installation",
            Validity::Untrusted => "not signed by a trusted key",
        }
    }

    /// The ids of an attestation in one line.
    fn ids(&self, word: &AttestationView) -> String {
        word.ids.join(", ")
    }
}

fn page(view: &TrustView, reports: bool) -> TrustPage<'_> {
    let chapter = |section: &Section| Chapter {
        id: section.as_str(),
        title: section.title(),
        claims: view.claims.iter().filter(|claim| claim.section == section.title()).collect(),
    };
    TrustPage {
        view,
        sections: Section::ALL.iter().map(chapter).filter(|chapter| !chapter.claims.is_empty()).collect(),
        tally: Shown::ALL
            .iter()
            .filter_map(|shown| Some((shown.as_str(), shown.title(), *view.counts.get(shown.as_str())?)))
            .filter(|(_, _, ids)| *ids > 0)
            .collect(),
        reports,
    }
}

async fn shown(app: &App) -> Result<TrustView, Problem> {
    Ok(TrustView::of(app, &trust::view(app).await?))
}

/// Shows the page.
pub(crate) async fn read(app: Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    let view = shown(&app).await?;
    let mut response = html(StatusCode::OK, &page(&view, app.security().is_some()), PagePolicy::reading())?;
    response.headers_mut().insert(header::CACHE_CONTROL, FRESH);
    Ok(response)
}

/// Answers the page as data.
pub(crate) async fn data(app: Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    let mut response = answer::ok(&shown(&app).await?)?;
    response.headers_mut().insert(header::CACHE_CONTROL, FRESH);
    Ok(response)
}

/// Which statement is wanted.
pub(crate) struct Which {
    whole: bool,
}

impl Input for Which {
    const QUERY: Query = Query::Known(&[("scope", "`whole` for the newest statement of a run of every probe.")]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let whole = match from.query("scope") {
            None => false,
            Some("whole") => true,
            Some(_) => {
                from.fault("?scope", "is `whole`, or is not given");
                return None;
            }
        };
        Some(Self { whole })
    }
}

/// Answers the newest statement byte for byte, for whoever verifies it.
pub(crate) async fn statement(app: Arc<App>, visit: Visit<Which>) -> Result<Response, Problem> {
    let bytes = trust::envelope(&app, visit.input.whole).await?;
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (header::CACHE_CONTROL, FRESH)];
    Ok((headers, bytes).into_response())
}

/// Answers how a vulnerability is reported.
pub(crate) async fn security(app: Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    let security = app.security().ok_or(Refusal::NotFound)?;
    let headers = [
        // RFC 9116 §3: plain text, in UTF-8.
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, FRESH),
    ];
    Ok((headers, security_txt::text(security, &app.public_url)).into_response())
}
