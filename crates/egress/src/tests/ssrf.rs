//! The wall against calls to the inside, tried with other people's payloads. They come without verdicts: what counts is
//! that nothing reaches a canary which a plain connection does reach.

#![expect(clippy::disallowed_methods, reason = "the canary is shown to be reachable by a plain connection")]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use domain::{clock::Clock, environment::Environment};
use http::Method;
use seal::Plain;
use url::Url;

use crate::{Auth, Egress, Host, HostSet, OutboundCall, Phases, Policy, Resolver, SendError};

/// Counts who connects. `settle` returns the count once everything before it has been counted.
struct Canary {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
    settled: mpsc::Receiver<()>,
}

impl Canary {
    fn sing() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let (settle, settled) = mpsc::channel();
        let counter = Arc::clone(&count);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut first = [0];
                // Only the test itself writes this letter; connections are accepted in their order.
                match socket.unwrap().read(&mut first) {
                    Ok(1) if first == *b"?" => settle.send(()).unwrap(),
                    _ => drop(counter.fetch_add(1, Ordering::SeqCst)),
                }
            }
        });
        Self { address, count, settled }
    }

    fn settle(&self) -> usize {
        TcpStream::connect(self.address).unwrap().write_all(b"?").unwrap();
        self.settled.recv().unwrap();
        self.count.load(Ordering::SeqCst)
    }
}

/// A file of the shared test material, or `None` where it is not there: in CI that is a failure, elsewhere it is said.
fn material(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ssrf").join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the test material is missing: {name}: {error}");
            // Not through the captured print: it must be seen also when the test passes.
            writeln!(std::io::stderr(), "not run: the payloads of {name}, which is not there").unwrap();
            None
        }
    }
}

/// Every text that some parser could take for the host of this URL.
fn hosts_of(url: &str) -> BTreeSet<String> {
    let mut hosts: BTreeSet<String> =
        Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).into_iter().collect();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    for authority in rest.split(['/', '?', '#', '\\', '@', '&', '+', ' ']) {
        hosts.insert(authority.to_owned());
        hosts.extend(authority.rsplit_once(':').map(|(host, _)| host.to_owned()));
        hosts.extend(authority.split_once(':').map(|(host, _)| host.to_owned()));
    }
    hosts
}

fn call(host: &str) -> OutboundCall {
    OutboundCall {
        method: Method::GET,
        host: host.to_owned(),
        path_and_query: "/".to_owned(),
        headers: Vec::new(),
        body: None,
        timeout: Duration::from_secs(20),
        max_response_bytes: 1000,
        send_by: None,
        account: None,
        also_secret: Vec::new(),
    }
}

/// An egress whose every host is declared, resolved to these addresses, and called at the canary's port.
fn egress(names: &BTreeSet<Host>, addresses: &[IpAddr], port: u16) -> (Egress, HostSet) {
    let declared: HostSet = names.iter().cloned().collect();
    let table: HashMap<_, _> = names.iter().map(|name| (name.to_string(), addresses.to_vec())).collect();
    let policy = Policy { resolver: Resolver::Fixed(table), ..Policy::new(declared.clone()) };
    let mut egress = Egress::new(policy, Environment::Local, Clock::system(), None).unwrap();
    egress.set_port(port);
    (egress, declared)
}

fn secret() -> Auth {
    Auth::Bearer(Plain::new(b"canary-token-1234".to_vec()))
}

#[tokio::test]
async fn no_payload_reaches_a_canary() {
    let mut urls: Vec<String> = Vec::new();
    urls.extend(material("payloads_given.txt").iter().flat_map(|text| text.lines()).map(str::to_owned));
    if let Some(text) = material("wpt_urltestdata.json") {
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let inputs = cases.iter().flat_map(|case| [&case["input"], &case["href"], &case["base"]]);
        urls.extend(inputs.filter_map(|input| input.as_str().map(str::to_owned)));
    }
    let hosts: BTreeSet<String> = urls.iter().flat_map(|url| hosts_of(url)).collect();

    let canary = Canary::sing();
    drop(TcpStream::connect(canary.address).unwrap());
    assert_eq!(canary.settle(), 1, "the canary can be reached");

    // A payload that is a name at all is given every chance: it is declared, sealed, and resolves to the canary.
    let names: BTreeSet<Host> = hosts.iter().filter_map(|host| Host::parse(host).ok()).collect();
    let inside = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())];
    let (egress, declared) = egress(&names, &inside, canary.address.port());
    let mut refused = (0, 0);
    for host in &hosts {
        match egress.send(call(host), secret(), &declared).await.err() {
            Some(SendError::HostRefused) => refused.0 += 1,
            Some(SendError::AddressRefused) => refused.1 += 1,
            other => panic!("{host}: {other:?}"),
        }
    }
    assert_eq!(canary.settle(), 1, "nothing reached it");
    let well_formed = hosts.iter().filter(|host| Host::parse(host).is_ok()).count();
    assert_eq!(refused, (hosts.len() - well_formed, well_formed));
    assert!(urls.is_empty() || refused.0 > 100, "the payloads were tried: {refused:?}");
}

/// The address filter stands alone: the machine's own resolver, which reads addresses in all their odd forms, is asked.
#[tokio::test]
async fn no_resolved_payload_passes_the_address_filter() {
    let canary = Canary::sing();
    let odd = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "localhost",
        "169.254.169.254",
        "10.0.0.1",
    ];
    let mut reached = 0;
    for text in odd {
        let Ok(found) = tokio::net::lookup_host((text, canary.address.port())).await else { continue };
        for address in found {
            if address.ip().is_loopback() || address.ip().to_canonical().is_loopback() || address.ip().is_unspecified()
            {
                reached += usize::from(TcpStream::connect(address).is_ok());
            }
            let name = BTreeSet::from([Host::parse("api.example").unwrap()]);
            let (egress, declared) = egress(&name, &[address.ip()], canary.address.port());
            let outcome = egress.send(call("api.example"), secret(), &declared).await.err();
            assert!(matches!(outcome, Some(SendError::AddressRefused)), "{text}: {outcome:?}");
        }
    }
    assert!(reached > 3, "plain connections reach the canary by these names");
    assert_eq!(canary.settle(), reached, "and only they did");
}

#[tokio::test]
async fn of_a_mixed_answer_only_the_public_addresses_are_tried() {
    let names = BTreeSet::from([Host::parse("api.example").unwrap()]);
    let inside = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let public = ["2606:4700::1111".parse().unwrap(), "1.1.1.1".parse().unwrap(), "::ffff:9.9.9.9".parse().unwrap()];
    let table = HashMap::from([("api.example".to_owned(), [&inside[..], &public[..]].concat())]);
    let connector =
        crate::connector::Connector::new(Resolver::Fixed(table), None, Clock::system(), Phases::default()).unwrap();
    let tried = connector.addresses(names.first().unwrap()).await.unwrap();
    let tried: Vec<_> = tried.iter().map(ToString::to_string).collect();
    assert_eq!(tried, ["[2606:4700::1111]:443", "1.1.1.1:443", "9.9.9.9:443"]);
}
