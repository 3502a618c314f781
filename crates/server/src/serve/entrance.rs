//! The entrance: a request as the application sees it, whichever HTTP it came by. It says who is at the other end, gives the body a time
//! within which it must come, and tells the connection when the answer is finished.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{BoxError, Router, body::Body, response::Response};
use bytes::Bytes;
use domain::problem::Kind;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use tokio::time::{Sleep, sleep};
use tower::ServiceExt;

use super::{Site, framing::MOST_HEADERS, refusal};
use crate::{guard::Peer, problem::Problem};

/// The most of an answer that is handed over at once: HTTP/2 takes a whole piece as soon as its client takes a byte of it, and the answer
/// is not sent before that.
const PIECE: usize = 16 * 1024;

/// What is held from a request's arrival to the last byte of its answer, and dropped then.
pub(super) trait Asked: Send + 'static {
    /// The whole answer was taken.
    fn answered(&mut self);
}

/// The application, for one connection.
pub(super) struct Entrance<F> {
    pub(super) router: Router,
    pub(super) site: Site,
    pub(super) peer: Peer,
    pub(super) body_within: Duration,
    /// Called for each request.
    pub(super) asked: F,
}

impl<F, A> Service<Request<Incoming>> for Entrance<F>
where
    F: Fn() -> A,
    A: Asked + Unpin,
{
    type Response = Response<Answer<A>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let asked = (self.asked)();
        let (router, peer, within) = (self.router.clone(), self.peer, self.body_within);
        // HTTP/1 is held to it before it is parsed.
        // HTTP/2 may send each cookie in a field of its own (RFC 9113 §8.2.3).
        let crumbs = request.headers().get_all(http::header::COOKIE).iter().count().saturating_sub(1);
        if request.headers().len() - crumbs > MOST_HEADERS {
            let refused = refusal::response(Problem::new(Kind::HeadTooLarge), &self.site);
            return Box::pin(async move { Ok(refused.map(|body| Answer::new(body, asked))) });
        }
        Box::pin(async move {
            let has_body = !request.body().is_end_stream();
            let mut request = request.map(|body| if has_body { timed(body, within) } else { Body::empty() });
            request.extensions_mut().insert(peer);
            let Ok(response) = router.oneshot(request).await;
            if has_body {
                // A body that nobody read ends an HTTP/1 connection. The library sees only at its next turn that there is one; without
                // that the answer would not say `Connection: close`, and a client would lose the request that it sends next (RFC 9112
                // §9.6).
                tokio::task::yield_now().await;
            }
            Ok(response.map(|body| Answer::new(body, asked)))
        })
    }
}

/// An answer's body, with what is held until it is sent.
pub(super) struct Answer<A> {
    body: Body,
    /// What came of the body and was not handed over yet.
    rest: Bytes,
    asked: A,
}

impl<A: Asked> Answer<A> {
    fn new(body: Body, mut asked: A) -> Self {
        if body.is_end_stream() {
            asked.answered();
        }
        Self { body, rest: Bytes::new(), asked }
    }
}

impl<A: Asked + Unpin> HttpBody for Answer<A> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let me = &mut *self;
        if me.rest.is_empty() {
            match Pin::new(&mut me.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => me.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(None) => {
                    me.asked.answered();
                    return Poll::Ready(None);
                }
                other => return other,
            }
        }
        let piece = me.rest.split_to(me.rest.len().min(PIECE));
        if me.is_end_stream() {
            me.asked.answered();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        let held = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        hint.exact().map_or(hint, |left| SizeHint::with_exact(left.saturating_add(held)))
    }
}

/// A request's body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come in time")]
pub(crate) struct BodyLate;

/// Whether an error of reading a body is that it did not come in time.
pub(crate) fn is_late(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyLate>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A body that must have come whole within a time, however slowly it drips.
fn timed<B>(body: B, within: Duration) -> Body
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    Body::new(Timed { body, until: Box::pin(sleep(within)) })
}

struct Timed<B> {
    body: B,
    until: Pin<Box<Sleep>>,
}

impl<B> HttpBody for Timed<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyLate.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use http_body_util::BodyExt;

    use super::*;

    struct Told(Arc<AtomicBool>);

    impl Asked for Told {
        fn answered(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn an_answer_is_handed_over_in_pieces_and_told_with_the_last() {
        let told = Arc::new(AtomicBool::new(false));
        let whole = vec![7_u8; 2 * PIECE + 1];
        let mut answer = Answer::new(Body::from(whole.clone()), Told(Arc::clone(&told)));
        assert_eq!(answer.size_hint().exact(), Some(2 * 16 * 1024 + 1));
        let mut came = Vec::new();
        for piece in [PIECE, PIECE, 1] {
            assert!(!told.load(Ordering::SeqCst) && !answer.is_end_stream());
            let data = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(data.len(), piece);
            came.extend_from_slice(&data);
        }
        assert!(told.load(Ordering::SeqCst) && answer.is_end_stream());
        assert_eq!(came, whole);
    }
}
