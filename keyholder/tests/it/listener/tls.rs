//! Which TLS is spoken, with which certificate, and what becomes of a certificate that is not fit.

use std::io::{Read, Write};

use keyholder::StartError;
use rustls::version::{TLS12, TLS13};

use super::{BOTH, Pair, exchange, get, head, over_tls, pair::made, plain, port, secure};
use crate::{
    harness::{TestApp, eventually},
    serve::{Operator, said},
};

/// A `ClientHello` of a client that knows nothing newer than this version (RFC 2246, RFC 4346 §7.4.1.2).
fn old_hello(minor: u8) -> Vec<u8> {
    let suites: &[u8] = &[0xc0, 0x13, 0xc0, 0x14, 0xc0, 0x09, 0xc0, 0x0a, 0x00, 0x2f, 0x00, 0x35, 0x00, 0x0a];
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, u8::try_from(suites.len()).unwrap()]);
    hello.extend(suites);
    hello.extend([1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    [vec![22, 3, minor, 0, length + 4, 1, 0, 0, length], hello].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let app = TestApp::start().await;
    let (node, _pair, root) = over_tls(&app, |_| {}).await;
    assert_eq!(node.url().scheme(), "https");
    for versions in [&[&TLS12][..], &[&TLS13][..], BOTH] {
        let mut stream = secure(port(&node), &root, versions, &[b"http/1.1"]).unwrap();
        let answer = exchange(&mut stream, &get("/health/live", "connection: close\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("strict-transport-security: max-age="), "{answer}");
    }
    for minor in [0, 1, 2] {
        let mut stream = plain(port(&node));
        stream.write_all(&old_hello(minor)).unwrap();
        let mut answer = Vec::new();
        let _end = stream.read_to_end(&mut answer);
        // One fatal alert, handshake_failure (40) or protocol_version (70), and nothing else: RFC 8446 §6.2.
        assert!(matches!(answer[..], [21, _, _, 0, 2, 2, 40 | 70]), "3.{minor}: {answer:?}");
    }
    // Whoever speaks plain HTTP to it is not answered in the clear.
    let answer = exchange(&mut plain(port(&node)), &get("/health/live", ""));
    assert!(!answer.contains("HTTP/1"), "{answer}");
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart_and_an_unfit_one_never() {
    let app = TestApp::start().await;
    let (node, pair, first) = over_tls(&app, |_| {}).await;
    let at = port(&node);
    let mut kept = secure(at, &first, BOTH, &[]).unwrap();
    let second = pair.renew();
    node.reread_certificate();
    eventually("the new certificate is shown", async || secure(at, &second, BOTH, &[]).is_ok()).await;
    assert!(secure(at, &first, BOTH, &[]).is_err(), "the former is not shown any more");
    // The connection from before goes on.
    kept.write_all(&get("/health/live", "")).unwrap();
    assert!(head(&mut kept).starts_with("HTTP/1.1 200"));

    let (good, other) = (made(-1, 90), made(-1, 90));
    let (expired, early) = (made(-90, -1), made(1, 90));
    let unfit = [
        ("mismatched", good.certificate.as_str(), other.key.as_str()),
        ("expired", &expired.certificate, &expired.key),
        ("not yet valid", &early.certificate, &early.key),
        ("half written", &good.certificate[..200], &good.key),
        ("empty", "", ""),
        ("the wrong way round", &good.key, &good.certificate),
    ];
    for (what, certificate, key) in unfit {
        pair.lay(certificate, key);
        node.reread_certificate();
        // Whether it was looked at shows in that the next fit one is taken; until then the one in use stays.
        for _ in 0..20 {
            assert!(secure(at, &second, BOTH, &[]).is_ok(), "{what}: the certificate in use was let go");
            tokio::task::yield_now().await;
        }
    }
    pair.write("tls.crt", &good.certificate, 0o644);
    pair.write("tls.key", &good.key, 0o644);
    node.reread_certificate();
    assert!(secure(at, &good.der, BOTH, &[]).is_err(), "a key that all can read was taken");
    pair.lay(&good.certificate, &good.key);
    node.reread_certificate();
    eventually("a fit one is taken after all that", async || secure(at, &good.der, BOTH, &[]).is_ok()).await;
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_does_not_start_with_a_certificate_that_is_not_fit() {
    let operator = Operator::new("certified").await;
    operator.migrate();
    let (good, other, expired, early) = (made(-1, 90), made(-1, 90), made(-90, -1), made(1, 90));
    let pair = Pair::empty();
    let files = [("KEYHOLDER_TLS_CERTIFICATE", pair.files().certificate), ("KEYHOLDER_TLS_KEY", pair.files().key)];
    let started = |settings: &[(&str, &str)]| {
        let mut command = operator.serving();
        command.envs(files.iter().map(|(name, path)| (*name, path)));
        command.envs(settings.iter().copied());
        let output = crate::serve::output_within(&mut command);
        let exit = output.status.code();
        (exit, said(&output))
    };
    let mut table = Vec::new();
    let mut expect = |what: &str, word: &str, settings: &[(&str, &str)]| {
        let (exit, message) = started(settings);
        assert_eq!(exit, Some(3), "{what}: {message}");
        assert!(message.contains(word) && !message.contains("panicked"), "{what}: {message}");
        assert!(!message.contains("PRIVATE KEY"), "{what}: a key is told: {message}");
        table.push(format!("{what:<32} exit 3: …{word}…"));
    };
    expect("no file", "there is no such file", &[]);
    pair.lay(&good.certificate, &other.key);
    expect("a key of another", "is not that of the certificate", &[]);
    pair.lay(&expired.certificate, &expired.key);
    expect("expired", "has expired at", &[]);
    pair.lay(&early.certificate, &early.key);
    expect("not yet valid", "is not valid before", &[]);
    pair.lay("nonsense", &good.key);
    expect("no certificate", "holds no certificate", &[]);
    pair.lay(&good.certificate, "nonsense");
    expect("no key", "holds no private key", &[]);
    pair.write("tls.crt", &good.certificate, 0o644);
    pair.write("tls.key", &good.key, 0o644);
    expect("a key that all can read", "can be read by others", &[]);
    pair.lay(&good.certificate, &good.key);
    expect("a certificate without its key", "needed together", &[("KEYHOLDER_TLS_KEY", "")]);
    let clear = [("KEYHOLDER_TLS_KEY", ""), ("KEYHOLDER_TLS_CERTIFICATE", "")];
    let elsewhere = [clear[0], clear[1], ("KEYHOLDER_LISTEN", "0.0.0.0:0")];
    expect("other machines in the clear", "not answered in the clear", &elsewhere);
    let metrics = [clear[0], clear[1], ("KEYHOLDER_METRICS_LISTEN", "0.0.0.0:0")];
    expect("metrics in the clear", "not answered in the clear", &metrics);
    expect("a public address in the clear", "served over TLS", &[("KEYHOLDER_PUBLIC_URL", "http://localhost:1")]);
    eprintln!("{}", table.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_this_machine_or_over_tls() {
    let app = TestApp::start().await;
    let everywhere = |options: &mut keyholder::InstanceOptions| options.metrics_listen = "0.0.0.0:0".parse().unwrap();
    let (node, _pair, root) = over_tls(&app, everywhere).await;
    assert_eq!(node.metrics_url().scheme(), "https");
    let at = node.metrics_url().port().unwrap();
    let request = get("/metrics", "connection: close\r\n");
    let answer = exchange(&mut secure(at, &root, BOTH, &[]).unwrap(), &request);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("nosniff"), "{answer}");
    assert!(!exchange(&mut plain(at), &request).contains("HTTP/1"));
    node.stop().await;
    let (node, _pair, _) = over_tls(&app, |_| {}).await;
    assert_eq!(node.metrics_url().scheme(), "http");
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_half_started_where_a_certificate_is_missing() {
    let app = TestApp::start().await;
    let refused = app.try_node_with(|options| options.tls = Some(Pair::empty().files())).await;
    assert!(matches!(refused, Err(StartError::Tls(_))), "{:?}", refused.err());
    app.stop().await;
}
