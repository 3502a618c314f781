//! Traces over OTLP: what the operator's collector sees of the corridor, and what it must not see.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use keyholder::telemetry::otlp::OtlpOptions;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::{
    harness::{TestApp, eventually, ok},
    logs::{log, plain_word},
};

/// What came to the collector.
#[derive(Default)]
struct Seen {
    bodies: Vec<Bytes>,
    credentials: Vec<String>,
}

/// A collector over TLS, whose certificate only who is told of it trusts. Gone with its value.
struct Collector {
    endpoint: Url,
    authority: Arc<[u8]>,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let (keeps, mut tasks) = (Arc::clone(&seen), JoinSet::new());
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Whoever does not shake hands has sent nothing that could be seen.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let keeps = Arc::clone(&keeps);
                let answer = service_fn(move |request| take(request, Arc::clone(&keeps)));
                let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            }
        });
        Self { endpoint, authority: made.cert.pem().into_bytes().into(), seen, _tasks: tasks }
    }

    fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let requests = seen.bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        requests
            .flat_map(|request| request.resource_spans)
            .inspect(|from| {
                let about = &from.resource.as_ref().unwrap().attributes;
                assert_eq!(attribute(about, "service.name").as_deref(), Some("keyholder"));
            })
            .flat_map(|from| from.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }
}

async fn take(request: Request<Incoming>, seen: Arc<Mutex<Seen>>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/v1/traces");
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/x-protobuf");
    let credential = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let mut seen = seen.lock().unwrap();
    seen.bodies.push(body);
    seen.credentials.push(credential);
    Ok(Response::new(Full::default()))
}

fn attribute(all: &[KeyValue], name: &str) -> Option<String> {
    match all.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_the_corridor_and_no_secret() {
    const CORRIDOR: [&str; 9] = ["identify", "enter", "permit", "inspect", "admit", "open", "act", "scrub", "settle"];
    let collector = Collector::start().await;
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-collector"));
    let roots = Some(Arc::clone(&collector.authority));
    let options = OtlpOptions { endpoint: collector.endpoint.clone(), headers, one_in: 1, roots };
    let about = vec![("service.name", "keyholder".to_owned())];
    let exporter = log().export_spans(options, about).unwrap().expect("nothing else in this process collects");
    let app = Box::pin(TestApp::start_with(|options| options.exporter = Some(exporter))).await;

    let entrusted = app.entrust(&["post.create"], json!([])).await;
    let words = plain_word("posted");
    ok(entrusted.act("post.create", &json!({ "text": words }), Some("one")).await, 200);
    // The control must be able to fail: what is written into a span does arrive, and a secret in it does not.
    let planted = format!("Authorization: Bearer {}", domain::random::token());
    tracing::info_span!("planted", note = planted, marker = "here").in_scope(|| {
        tracing::warn!(why = planted, "something went wrong");
    });

    let is_walk = |span: &Span| {
        let steps: Vec<_> = span.events.iter().map(|event| event.name.as_str()).collect();
        span.name == "request"
            && attribute(&span.attributes, "route").as_deref() == Some("/v1/acts")
            && steps == CORRIDOR
    };
    eventually("an act's span and the planted one are there", async || {
        let spans = collector.spans();
        spans.iter().any(is_walk) && spans.iter().any(|span| span.name == "planted")
    })
    .await;
    let spans = collector.spans();
    let walk = spans.iter().find(|span| is_walk(span)).unwrap();
    assert_eq!(attribute(&walk.attributes, "status").as_deref(), Some("200"));
    assert_eq!((walk.trace_id.len(), walk.span_id.len()), (16, 8));
    assert!(walk.start_time_unix_nano <= walk.events[0].time_unix_nano);
    assert!(walk.events[8].time_unix_nano <= walk.end_time_unix_nano);
    let marked = spans.iter().find(|span| span.name == "planted").unwrap();
    assert_eq!(attribute(&marked.attributes, "marker").as_deref(), Some("here"));
    assert_eq!(marked.events[0].name, "something went wrong");

    let seen = collector.seen.lock().unwrap().bodies.concat();
    let secrets = [
        ("an API key", entrusted.agent.key().unwrap()),
        ("the first key", &app.first.text),
        ("the client's secret", &app.secret),
        ("what was posted", &words),
        ("what was planted", planted.rsplit(' ').next().unwrap()),
    ];
    for (what, secret) in secrets {
        assert!(!seen.windows(secret.len()).any(|window| window == secret.as_bytes()), "{what} left with the traces");
    }
    assert!(collector.seen.lock().unwrap().credentials.iter().all(|it| it == "Bearer of-the-collector"));

    // A collector that is away blocks nobody, and not the stop either.
    drop(collector);
    for number in 0..20 {
        let name = format!("alone-{number}");
        ok(entrusted.act("post.create", &json!({ "text": name }), Some(&name)).await, 200);
    }
    app.stop().await;
}
