//! Quirks: how the platform can be made to misbehave, and the switchboard that says when.
//!
//! A quirk is data, so that a test, a demonstration or another process can send one. This module decides which quirk meets
//! which request; `stage` carries it out. Never touches a request or an answer itself.

use std::collections::{BTreeMap, VecDeque};

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::journal::Call;

const MOST_ARMED: usize = 64;
const SLOWEST_MS: u64 = 600_000;

/// A way to misbehave. As JSON: `{"kind": "slow_answer", "ms": 200}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Quirk {
    /// The effect happens, the answer comes late.
    SlowAnswer {
        /// How late, at most 600,000.
        ms: u64,
    },
    /// The effect happens, the answer waits until the switchboard is cleared: a test need not wait on a clock.
    HoldAnswer,
    /// The effect happens, and the connection is cut before any byte of the answer.
    LoseAnswer,
    /// The effect happens, and the connection is cut after this many bytes of the answer's body. An answer that is not
    /// longer arrives whole.
    CutAnswer {
        /// How many bytes arrive.
        after_bytes: usize,
    },
    /// Nothing happens, and this status is answered.
    Status {
        /// From 200 to 599.
        code: u16,
        /// The Retry-After header, in seconds.
        #[serde(default)]
        retry_after_s: Option<u64>,
    },
    /// Nothing happens: 429 with X's rate limit headers.
    RateLimited {
        /// When the window ends, in seconds from now.
        reset_after_s: u64,
    },
    /// The effect happens, and the answer claims to be JSON but is not.
    MalformedJson,
    /// Nothing happens: 307 to this place, which asks the client to send everything there again.
    Redirect {
        /// The Location header.
        location: String,
    },
    /// The caller's Authorization header comes back to it.
    EchoAuthorization {
        /// In which part of the answer.
        place: EchoPlace,
        /// Written how.
        #[serde(default)]
        form: EchoForm,
        /// The body comes in pieces of one byte.
        #[serde(default)]
        piecewise: bool,
    },
    /// Nothing happens: 503 with OAuth's JSON error, whose description quotes everything secret that the form brought (code,
    /// verifier, tokens, the client's secret) and the Authorization header.
    EchoForm {
        /// Written how.
        #[serde(default)]
        form: EchoForm,
    },
}

/// Where the Authorization header is echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EchoPlace {
    /// The effect happens; the answer's JSON object gets one more field, `echo`.
    Body,
    /// The effect happens; the answer gets one more header, `x-echo`.
    Header,
    /// Nothing happens; 500 with a page of HTML.
    ErrorPage,
    /// As `Body`, and compressed, whatever encoding was asked for.
    GzipBody,
    /// As `GzipBody`, in zlib's format (RFC 1950), which HTTP calls deflate.
    DeflateBody,
    /// As `GzipBody`, in Brotli's format (RFC 7932).
    BrotliBody,
    /// As `GzipBody`, and no header says so.
    UnlabelledGzip,
    /// Nothing happens; 400 with a problem, which gets one more header, `x-echo`.
    ErrorHeader,
    /// The effect happens; the answer's entity tag is the echo: a header that caches and clients want to see.
    EntityTag,
    /// The effect happens; a cookie is set to the echo.
    SetCookie,
    /// Nothing happens; 302 to an address whose query is the echo.
    Location,
}

impl EchoPlace {
    /// All places.
    pub const ALL: [Self; 11] = [
        Self::Body,
        Self::Header,
        Self::ErrorPage,
        Self::GzipBody,
        Self::DeflateBody,
        Self::BrotliBody,
        Self::UnlabelledGzip,
        Self::ErrorHeader,
        Self::EntityTag,
        Self::SetCookie,
        Self::Location,
    ];

    /// Whether nothing happens but the echo.
    pub fn is_instead(self) -> bool {
        matches!(self, Self::ErrorPage | Self::ErrorHeader | Self::Location)
    }

    /// Whether the echo stands in a header.
    pub fn is_header(self) -> bool {
        matches!(self, Self::Header | Self::ErrorHeader | Self::EntityTag | Self::SetCookie | Self::Location)
    }

    /// Whether the body is compressed, though nobody asked for it.
    pub fn is_compressed(self) -> bool {
        matches!(self, Self::GzipBody | Self::DeflateBody | Self::BrotliBody | Self::UnlabelledGzip)
    }
}

/// How the echoed text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EchoForm {
    /// As it came.
    #[default]
    Plain,
    /// Base64 of the text after 0, 1 or 2 other bytes: the three ways in which it can be aligned.
    Base64 {
        /// How many bytes stand before it.
        shift: u8,
    },
    /// The same in the URL-safe alphabet, unpadded.
    Base64Url {
        /// How many bytes stand before it.
        shift: u8,
    },
    /// Every byte as `%XX`.
    Percent,
    /// Every character as `\uXXXX`.
    JsonEscapes,
    /// Every second byte as `%XX`, its digits in upper and in lower case by turns.
    SomePercent,
    /// Every second character as `\uXXXX`, its digits in upper and in lower case by turns.
    SomeEscapes,
    /// Base64 as a JSON encoder writes it that escapes slashes: `\/`.
    Base64Slashes {
        /// How many bytes stand before it.
        shift: u8,
    },
    /// Every byte as `\u0025XX`: percent signs in JSON that was made safe for HTML.
    EscapedPercent,
    /// Every character as `\\uXXXX`: JSON in a string of JSON.
    DoubleEscapes,
    /// Every byte as two hexadecimal digits.
    Hex,
    /// Every character as an HTML reference, decimal and hexadecimal by turns.
    References,
}

impl EchoForm {
    /// All forms, each alignment of base64 on its own.
    pub const ALL: [Self; 18] = [
        Self::Plain,
        Self::Base64 { shift: 0 },
        Self::Base64 { shift: 1 },
        Self::Base64 { shift: 2 },
        Self::Base64Url { shift: 0 },
        Self::Base64Url { shift: 1 },
        Self::Base64Url { shift: 2 },
        Self::Percent,
        Self::JsonEscapes,
        Self::SomePercent,
        Self::SomeEscapes,
        Self::Base64Slashes { shift: 0 },
        Self::Base64Slashes { shift: 1 },
        Self::Base64Slashes { shift: 2 },
        Self::EscapedPercent,
        Self::DoubleEscapes,
        Self::Hex,
        Self::References,
    ];

    /// Whether it is written with JSON's escapes, so that a JSON string takes it as it is.
    pub(crate) fn is_escaped(self) -> bool {
        matches!(
            self,
            Self::JsonEscapes
                | Self::SomeEscapes
                | Self::Base64Slashes { .. }
                | Self::EscapedPercent
                | Self::DoubleEscapes
        )
    }

    fn shift(self) -> u8 {
        match self {
            Self::Base64 { shift } | Self::Base64Url { shift } | Self::Base64Slashes { shift } => shift,
            _ => 0,
        }
    }
}

/// Addresses inside a machine or its network, in the spellings in which redirects smuggle them: loopback, link-local (with the
/// metadata service of the clouds), private, shared and unspecified ones, and IPv6 forms that hold an IPv4 address.
pub const INSIDE: &[&str] = &[
    "http://127.0.0.1/",
    "https://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://localhost/",
    "http://localhost./",
    "http://api.x.com@127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://192.0.0.192/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "//127.0.0.1/",
    "/2/users/me",
    "file:///etc/passwd",
    "gopher://127.0.0.1:5432/",
];

/// Which requests a switch meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// All.
    Any,
    /// The consent page and its form.
    Authorize,
    /// The token endpoint: exchange and refresh.
    Token,
    /// The revocation endpoint.
    Revoke,
    /// All calls of the API.
    Api,
    /// One kind. As JSON: `{"only": "reply"}`.
    Only(Call),
}

impl Route {
    fn covers(self, call: Call) -> bool {
        match self {
            Self::Any => true,
            Self::Authorize => matches!(call, Call::ShowConsent | Call::DecideConsent),
            Self::Token => matches!(call, Call::Exchange | Call::Refresh),
            Self::Revoke => call == Call::Revoke,
            Self::Api => call.is_api(),
            Self::Only(only) => only == call,
        }
    }
}

/// How often a switch meets a request before it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// The next one.
    Once,
    /// The next so many, at least one. As JSON: `{"exactly": 3}`.
    Exactly(u32),
    /// All, until the switchboard is cleared.
    Always,
}

/// Where and how often a quirk applies. As JSON: `{"route": "token", "times": "once"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Which requests.
    pub route: Route,
    /// How often.
    pub times: Times,
}

impl Scope {
    /// The next request of the route.
    pub fn once(route: Route) -> Self {
        Self { route, times: Times::Once }
    }

    /// The next `n` requests of the route.
    pub fn exactly(route: Route, n: u32) -> Self {
        Self { route, times: Times::Exactly(n) }
    }

    /// All requests of the route until the switchboard is cleared.
    pub fn always(route: Route) -> Self {
        Self { route, times: Times::Always }
    }
}

/// The switch cannot be thrown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// 64 are waiting already.
    #[error("too many switches: clear the switchboard first")]
    Full,
    /// A value of the quirk or its scope is out of range.
    #[error("out of range: {0}")]
    OutOfRange(&'static str),
}

/// A switch that waits for requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Armed {
    /// What will happen.
    pub quirk: Quirk,
    /// Which requests it waits for.
    pub route: Route,
    /// How often it still applies; `None` is always.
    pub left: Option<u32>,
}

/// All switches, in the order in which they were thrown.
#[derive(Debug, Default)]
pub(crate) struct Switchboard {
    armed: VecDeque<Armed>,
    fired: BTreeMap<&'static str, u64>,
}

impl Switchboard {
    pub(crate) fn switch(&mut self, quirk: Quirk, scope: Scope) -> Result<(), SwitchError> {
        quirk.check()?;
        let left = match scope.times {
            Times::Once => Some(1),
            Times::Exactly(0) => return Err(SwitchError::OutOfRange("exactly: at least 1")),
            Times::Exactly(n) => Some(n),
            Times::Always => None,
        };
        if self.armed.len() >= MOST_ARMED {
            return Err(SwitchError::Full);
        }
        self.armed.push_back(Armed { quirk, route: scope.route, left });
        Ok(())
    }

    /// The quirk that meets this request: of the switches that cover it, the one that was thrown first.
    pub(crate) fn take(&mut self, call: Call) -> Option<Quirk> {
        let place = self.armed.iter().position(|armed| armed.route.covers(call))?;
        let armed = self.armed.get_mut(place)?;
        let quirk = armed.quirk.clone();
        *self.fired.entry(quirk.name()).or_default() += 1;
        armed.left = armed.left.map(|left| left - 1);
        if armed.left == Some(0) {
            self.armed.remove(place);
        }
        Some(quirk)
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(crate) fn armed(&self) -> impl Iterator<Item = &Armed> {
        self.armed.iter()
    }

    pub(crate) fn fired(&self) -> u64 {
        self.fired.values().sum()
    }

    pub(crate) fn fired_by_name(&self) -> &BTreeMap<&'static str, u64> {
        &self.fired
    }
}

impl Quirk {
    /// The name that it has in JSON, in the journal and in the counts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SlowAnswer { .. } => "slow_answer",
            Self::HoldAnswer => "hold_answer",
            Self::LoseAnswer => "lose_answer",
            Self::CutAnswer { .. } => "cut_answer",
            Self::Status { .. } => "status",
            Self::RateLimited { .. } => "rate_limited",
            Self::MalformedJson => "malformed_json",
            Self::Redirect { .. } => "redirect",
            Self::EchoAuthorization { .. } => "echo_authorization",
            Self::EchoForm { .. } => "echo_form",
        }
    }

    fn check(&self) -> Result<(), SwitchError> {
        let fault = match self {
            Self::SlowAnswer { ms } if *ms > SLOWEST_MS => "ms: at most 600000",
            Self::Status { code, .. } if !(200..600).contains(code) => "code: from 200 to 599",
            Self::RateLimited { reset_after_s } if *reset_after_s > SLOWEST_MS => "reset_after_s: at most 600000",
            Self::Redirect { location } if location.len() > 2048 || HeaderValue::from_str(location).is_err() => {
                "location: a header's value of at most 2048 bytes"
            }
            Self::EchoAuthorization { form, .. } | Self::EchoForm { form } if form.shift() > 2 => "shift: 0, 1 or 2",
            _ => return Ok(()),
        };
        Err(SwitchError::OutOfRange(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_switch_that_covers_a_call_meets_it_until_it_is_spent() {
        let mut board = Switchboard::default();
        let status = |code| Quirk::Status { code, retry_after_s: None };
        board.switch(status(500), Scope::exactly(Route::Only(Call::Reply), 2)).unwrap();
        board.switch(status(503), Scope::always(Route::Api)).unwrap();
        assert_eq!(board.take(Call::Refresh), None);
        assert_eq!(board.take(Call::ReadPost), Some(status(503)));
        assert_eq!(board.take(Call::Reply), Some(status(500)));
        assert_eq!(board.take(Call::Reply), Some(status(500)));
        assert_eq!(board.take(Call::Reply), Some(status(503)));
        assert_eq!(board.fired(), 4);
        board.clear();
        assert_eq!(board.take(Call::Reply), None);
    }

    #[test]
    fn routes_cover_their_calls() {
        let table: &[(Route, &[Call], &[Call])] = &[
            (Route::Any, &[Call::Unknown, Call::Refresh, Call::Reply], &[]),
            (Route::Authorize, &[Call::ShowConsent, Call::DecideConsent], &[Call::Exchange, Call::ReadProfile]),
            (Route::Token, &[Call::Exchange, Call::Refresh], &[Call::Revoke, Call::Reply]),
            (Route::Revoke, &[Call::Revoke], &[Call::Refresh]),
            (Route::Api, &[Call::ReadProfile, Call::Reply, Call::ReadAccount], &[Call::Refresh, Call::Unknown]),
            (Route::Only(Call::Reply), &[Call::Reply], &[Call::CreatePost]),
        ];
        for (route, covered, not) in table {
            assert!(covered.iter().all(|call| route.covers(*call)), "{route:?}");
            assert!(!not.iter().any(|call| route.covers(*call)), "{route:?}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_and_the_board_is_bounded() {
        let mut board = Switchboard::default();
        let wrong = [
            Quirk::SlowAnswer { ms: SLOWEST_MS + 1 },
            Quirk::Status { code: 101, retry_after_s: None },
            Quirk::Redirect { location: "a\nb".into() },
            Quirk::EchoAuthorization { place: EchoPlace::Body, form: EchoForm::Base64 { shift: 3 }, piecewise: false },
        ];
        for quirk in wrong {
            let refused = board.switch(quirk.clone(), Scope::once(Route::Any));
            assert!(matches!(refused, Err(SwitchError::OutOfRange(_))), "{quirk:?}");
        }
        assert!(board.switch(Quirk::LoseAnswer, Scope::exactly(Route::Any, 0)).is_err());
        for _ in 0..MOST_ARMED {
            board.switch(Quirk::LoseAnswer, Scope::once(Route::Any)).unwrap();
        }
        assert_eq!(board.switch(Quirk::LoseAnswer, Scope::once(Route::Any)), Err(SwitchError::Full));
    }

    #[test]
    fn the_json_is_what_the_documentation_says() {
        let quirk: Quirk = serde_json::from_value(json!({"kind": "slow_answer", "ms": 200})).unwrap();
        assert_eq!(quirk, Quirk::SlowAnswer { ms: 200 });
        let echo = json!({"kind": "echo_authorization", "place": "gzip_body", "form": {"base64": {"shift": 1}}});
        let quirk: Quirk = serde_json::from_value(echo).unwrap();
        let form = EchoForm::Base64 { shift: 1 };
        assert_eq!(quirk, Quirk::EchoAuthorization { place: EchoPlace::GzipBody, form, piecewise: false });
        for (text, scope) in [
            (json!({"route": "token", "times": "once"}), Scope::once(Route::Token)),
            (json!({"route": {"only": "reply"}, "times": {"exactly": 3}}), Scope::exactly(Route::Only(Call::Reply), 3)),
            (json!({"route": "any", "times": "always"}), Scope::always(Route::Any)),
        ] {
            assert_eq!(serde_json::from_value::<Scope>(text).unwrap(), scope);
        }
        for wrong in
            [json!({"kind": "slow_answer", "ms": 1, "x": 1}), json!({"kind": "other"}), json!({"kind": "slow_answer"})]
        {
            assert!(serde_json::from_value::<Quirk>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
