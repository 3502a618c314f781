//! Sending: one call, over one connection, at most once. Never repeats a call of which a byte has left.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use domain::{clock::Clock, environment::Environment};
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use zeroize::Zeroizing;

use crate::{
    call::{Auth, Fault, OutboundCall, Prepared, RawAnswer, SendError, Stage},
    connector::{Connector, Resolver, SandboxRoute, is_own},
    gate::Verdict,
    host::{Host, HostSet},
    phase::{Budget, Phases},
    pool::{Limits, Line, Pool},
    wipe,
};

/// The most room that is made for a body before it has come: its length is the peer's word.
const MAX_ROOM: usize = 64 * 1024;

/// What one [`Egress`] may do.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The hosts that the provider files declare.
    pub declared: HostSet,
    /// Where names are resolved.
    pub resolver: Resolver,
    /// How long each phase of a call may take.
    pub phases: Phases,
    /// How long a connection may rest before it is closed.
    pub max_rest: Duration,
    /// The most connections at rest per host.
    pub max_resting_per_host: usize,
    /// The most calls in flight per host; further ones wait for their turn, within their timeout.
    pub max_in_flight_per_host: usize,
    /// The most calls in flight of one account, over all hosts: a part of what a host may have, so that no account has all of it.
    pub max_in_flight_per_account: usize,
}

impl Policy {
    /// The machine's resolver, the default phases, 20 s of rest; per host 64 connections at rest and 256 calls in flight, of which one
    /// account may have a quarter.
    pub fn new(declared: HostSet) -> Self {
        Self {
            declared,
            resolver: Resolver::System,
            phases: Phases::default(),
            max_rest: Duration::from_secs(20),
            max_resting_per_host: 64,
            max_in_flight_per_host: 256,
            max_in_flight_per_account: 64,
        }
    }
}

/// Why there can be no [`Egress`].
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A sandbox is reached in the environment `local` only.
    #[error("a sandbox can be reached in the environment local only, and this is {0}")]
    SandboxOutsideLocal(Environment),
    /// A sandbox runs on this machine.
    #[error("a sandbox listens on this machine's own addresses only")]
    SandboxElsewhere,
    /// The sandbox's certificate authority cannot be trusted, or TLS cannot be set up.
    #[error("outbound TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The way out, for one policy. Its connections are shared with no other.
pub struct Egress {
    declared: HostSet,
    connector: Connector,
    pool: Pool,
    phases: Phases,
    clock: Clock,
}

impl Egress {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// A sandbox's route outside the environment `local`, one that leads off this machine, or an unusable certificate.
    pub fn new(
        policy: Policy,
        environment: Environment,
        clock: Clock,
        route: Option<SandboxRoute>,
    ) -> Result<Self, EgressError> {
        if let Some(route) = &route {
            if environment != Environment::Local {
                return Err(EgressError::SandboxOutsideLocal(environment));
            }
            if !is_own(route.addr.ip()) {
                return Err(EgressError::SandboxElsewhere);
            }
        }
        let connector =
            Connector::new(policy.resolver, route, clock.clone(), policy.phases).map_err(EgressError::Tls)?;
        let limits = Limits {
            in_flight_per_host: policy.max_in_flight_per_host,
            in_flight_per_account: policy.max_in_flight_per_account,
            resting_per_host: policy.max_resting_per_host,
            rest: policy.max_rest,
        };
        let pool = Pool::new(&policy.declared, clock.clone(), limits);
        Ok(Self { declared: policy.declared, connector, pool, phases: policy.phases, clock })
    }

    #[cfg(test)]
    pub(crate) fn set_port(&mut self, port: u16) {
        self.connector.set_port(port);
    }

    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.pool.accounts()
    }

    /// Sends a call to a host that is both declared and in `permitted`, which is the set sealed with the credential.
    ///
    /// The credential is consumed whatever comes of it. The call is sent at most once; only when nothing of it has left
    /// over a connection that had rested is it tried again, over a new one. Dropping the future closes the connection
    /// and leaves open whether the call was sent.
    ///
    /// # Errors
    /// [`SendError`], which tells what surely had no effect from what may have had one.
    pub async fn send(
        &self,
        call: OutboundCall,
        credential: Auth,
        permitted: &HostSet,
    ) -> Result<RawAnswer, SendError> {
        let host = self.permit(&call.host, permitted)?;
        let (prepared, scrubber) = Prepared::new(&host, call, credential)?;
        let (status, headers, body) = self.exchange(&host, &prepared).await?;
        Ok(RawAnswer::new(status, headers, body, scrubber))
    }

    /// The control that a credential goes nowhere but to its provider.
    fn permit(&self, host: &str, permitted: &HostSet) -> Result<Host, SendError> {
        let host = Host::parse(host).map_err(|_| SendError::HostRefused)?;
        if self.declared.contains(&host) && permitted.contains(&host) { Ok(host) } else { Err(SendError::HostRefused) }
    }

    async fn exchange(&self, host: &Host, call: &Prepared) -> Result<(StatusCode, HeaderMap, Bytes), SendError> {
        let mut budget = Budget::new(call.timeout);
        let late = |stage| SendError::NotSent { stage, source: Fault::TimedOut };

        let turn = budget.phase(self.phases.turn, self.pool.turn(host, call.account)).await;
        let _turn = turn.ok_or_else(|| late(Stage::Turn))?.ok_or(SendError::HostRefused)?;
        if let Some(rested) = budget.within(self.pool.take(host)).await.ok_or_else(|| late(Stage::Request))? {
            match self.attempt(host, rested, call, &mut budget).await {
                // The peer had closed it while it rested, and nothing left: not this call's fault.
                Err(SendError::NotSent { source: Fault::Http(_), .. }) => {}
                outcome => return outcome,
            }
        }
        self.check_deadline(call)?;
        let (stream, gate) = self.connector.connect(host, &mut budget).await?;
        let fresh = budget.within(Line::begin(stream, gate)).await.ok_or_else(|| late(Stage::Request))?;
        let fresh = fresh.map_err(|error| SendError::NotSent { stage: Stage::Request, source: Fault::Http(error) })?;
        self.attempt(host, fresh, call, &mut budget).await
    }

    /// Spares a connection that could come to nothing. The check that counts is the gate's.
    fn check_deadline(&self, call: &Prepared) -> Result<(), SendError> {
        match call.send_by {
            Some(send_by) if self.clock.since_boot() > send_by => Err(SendError::DeadlinePassed),
            _ => Ok(()),
        }
    }

    async fn attempt(
        &self,
        host: &Host,
        mut line: Line,
        call: &Prepared,
        budget: &mut Budget,
    ) -> Result<(StatusCode, HeaderMap, Bytes), SendError> {
        line.gate.arm(call.send_by);
        let mut exchange = pin!(line.requests.try_send_request(call.request()));
        let mut head = budget.phase(self.phases.request, exchange.as_mut()).await;
        let written = head.is_some() || line.gate.is_through();
        if head.is_none() && written {
            head = budget.phase(self.phases.first_byte, exchange).await;
        }
        let (returned, source) = match head {
            Some(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                let body = read(head.status, &head.headers, body, call.max_response_bytes, budget).await?;
                self.pool.put(host, line);
                return Ok((head.status, head.headers, body));
            }
            // A request that the connection gives back was never written, even where TLS wrote its farewell.
            Some(Err(mut error)) => (error.take_message().is_some(), Fault::Http(error.into_error())),
            None => (false, Fault::TimedOut),
        };
        let stage = if written { Stage::FirstByte } else { Stage::Request };
        Err(match line.gate.shut() {
            Verdict::Expired => SendError::DeadlinePassed,
            Verdict::Held => SendError::NotSent { stage: Stage::Request, source },
            Verdict::Left if returned => SendError::NotSent { stage: Stage::Request, source },
            Verdict::Left => SendError::Ambiguous { stage, status: None, source },
        })
    }
}

/// Reads the whole body, if it is text that can be searched.
async fn read(
    status: StatusCode,
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    budget: &mut Budget,
) -> Result<Bytes, SendError> {
    if !codings_are(headers, &header::CONTENT_ENCODING, "identity")
        || !codings_are(headers, &header::TRANSFER_ENCODING, "chunked")
    {
        return Err(SendError::Encoded { status });
    }
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(SendError::TooLarge { status });
    }
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(MAX_ROOM);
    let mut read = Zeroizing::new(Vec::with_capacity(told.min(MAX_ROOM)));
    loop {
        let cut = |source| SendError::Ambiguous { stage: Stage::Answer, status: Some(status), source };
        let Some(frame) = budget.within(body.frame()).await.ok_or_else(|| cut(Fault::TimedOut))? else {
            break;
        };
        let Ok(piece) = frame.map_err(|error| cut(Fault::Http(error)))?.into_data() else {
            continue; // Trailers: nothing that is shown comes from them.
        };
        if read.len().saturating_add(piece.len()) > limit {
            return Err(SendError::TooLarge { status });
        }
        wipe::append(&mut read, &piece);
    }
    // Compressed bodies are not always labelled, and the scrub could not look into them. What an action of a provider
    // file answers is text; compressed bytes are not UTF-8, and the NUL gives UTF-16 away.
    if std::str::from_utf8(&read).is_err() || read.contains(&0) {
        return Err(SendError::Encoded { status });
    }
    Ok(Bytes::from_owner(read))
}

/// Whether every coding that the header lists is the one given.
fn codings_are(headers: &HeaderMap, name: &HeaderName, coding: &str) -> bool {
    headers.get_all(name).iter().all(|value| {
        value.to_str().is_ok_and(|list| list.split(',').all(|item| item.trim().eq_ignore_ascii_case(coding)))
    })
}
