//! Named proxies as tables: who is named, and who the client is then.

use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn peer(text: &str) -> Peer {
    if text == "unix" { Peer::Local } else { Peer::Network(text.parse().unwrap()) }
}

fn forwarding(proxies: &[&str], header: &str) -> Forwarding {
    Forwarding::new(proxies.iter().map(|text| text.parse().unwrap()).collect(), header.parse().unwrap())
}

#[test]
fn a_proxy_is_named_by_address_network_or_socket() {
    let cases = [
        ("10.0.0.7", "10.0.0.7", true),
        ("10.0.0.7", "10.0.0.8", false),
        ("10.0.0.0/24", "10.0.0.255", true),
        ("10.0.0.0/24", "10.0.1.0", false),
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("2001:db8::7", "2001:db8::7", true),
        ("127.0.0.1", "unix", false),
        ("unix", "127.0.0.1", false),
        ("unix", "unix", true),
        ("::1", "127.0.0.1", false),
        ("0a00::/16", "10.0.0.0", false),
    ];
    for (named, who, expected) in cases {
        assert_eq!(named.parse::<Proxy>().unwrap().is(peer(who)), expected, "{named} {who}");
    }
    for bad in [
        "",
        "*",
        "proxy.example",
        "10.0.0.0/7",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1/24",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "10.0.0.0/024x",
        "10.0.0.0/8/8",
        "10.0.0",
        "::ffff:10.0.0.1",
        "2001:db8::1/32",
        "UNIX",
        "[::1]",
        "10.0.0.1:80",
    ] {
        assert!(bad.parse::<Proxy>().is_err(), "{bad}");
    }
}

/// From whom, with which headers; the client, or the fault.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<&'a str, ForwardingError>);

/// The client, or the fault.
fn client(forwarding: &Forwarding, from: &str, pairs: &[(&str, &str)]) -> Result<String, ForwardingError> {
    let client = forwarding.client(peer(from), &headers(pairs))?;
    let clear = if client.in_clear { " in the clear" } else { "" };
    let who = match client.peer {
        Peer::Network(address) => address.to_string(),
        Peer::Local => "unix".to_owned(),
    };
    let hosts: Vec<_> = client.hosts.iter().map(|host| format!(" at {host}")).collect();
    Ok(format!("{who}{clear}{}", hosts.concat()))
}

#[test]
fn the_usual_headers_count_from_the_named_alone() {
    const FOR: &str = "x-forwarded-for";
    const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");
    let forwarding = forwarding(&["10.0.0.0/24", "unix", "2001:db8::7"], "x-forwarded-for");
    let long = vec!["10.0.0.1"; 17].join(",");
    let fits = vec!["10.0.0.1"; 16].join(",");
    let cases: &[Case<'_>] = &[
        ("192.0.2.1", &[(FOR, "198.51.100.1"), HTTPS], Ok("192.0.2.1")),
        ("127.0.0.1", &[(FOR, "198.51.100.1"), HTTPS], Ok("127.0.0.1")),
        ("192.0.2.1", &[("x-forwarded-proto", "http"), ("x-forwarded-host", "evil.example")], Ok("192.0.2.1")),
        ("192.0.2.1", &[("forwarded", "\"")], Ok("192.0.2.1")),
        ("10.0.0.1", &[], Ok("10.0.0.1")),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), HTTPS], Ok("198.51.100.1")),
        ("unix", &[(FOR, "198.51.100.1"), HTTPS], Ok("198.51.100.1")),
        ("2001:db8::7", &[(FOR, "[2001:db8:1::1]:443"), HTTPS], Ok("2001:db8:1::1")),
        // What the client itself sent stands to the left, and is not reached.
        ("10.0.0.1", &[(FOR, "203.0.113.9, 198.51.100.1"), HTTPS], Ok("198.51.100.1")),
        ("10.0.0.1", &[(FOR, "203.0.113.9"), (FOR, "198.51.100.1"), HTTPS], Ok("198.51.100.1")),
        ("10.0.0.1", &[(FOR, "nonsense, \", 198.51.100.1"), HTTPS], Ok("198.51.100.1")),
        ("10.0.0.1", &[(FOR, ", ,198.51.100.1,"), HTTPS], Ok("198.51.100.1")),
        // Past the named, to the first who is not.
        ("10.0.0.1", &[(FOR, "203.0.113.9, 198.51.100.1, 10.0.0.2"), HTTPS], Ok("198.51.100.1")),
        ("10.0.0.1", &[(FOR, "10.0.0.3, 10.0.0.2"), HTTPS], Ok("10.0.0.3")),
        // What is no address ends at the last who is known.
        ("10.0.0.1", &[(FOR, "198.51.100.1, unknown"), HTTPS], Ok("10.0.0.1")),
        ("10.0.0.1", &[(FOR, "198.51.100.1, _hidden, 10.0.0.2"), HTTPS], Ok("10.0.0.2")),
        ("10.0.0.1", &[(FOR, &fits), HTTPS], Ok("10.0.0.1")),
        ("10.0.0.1", &[(FOR, &long), HTTPS], Err(ForwardingError::TooManyHops)),
        // The protocol.
        ("10.0.0.1", &[(FOR, "198.51.100.1")], Err(ForwardingError::NoProtocol)),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), ("x-forwarded-proto", "http")], Ok("198.51.100.1 in the clear")),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), ("x-forwarded-proto", "https, http")], Ok("198.51.100.1 in the clear")),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), ("x-forwarded-proto", "http"), HTTPS], Ok("198.51.100.1 in the clear")),
        ("10.0.0.1", &[(FOR, "127.0.0.1"), ("x-forwarded-proto", "http")], Ok("127.0.0.1")),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), ("x-forwarded-proto", "spdy")], Err(ForwardingError::OddProtocol)),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), ("x-forwarded-proto", "")], Err(ForwardingError::OddProtocol)),
        // The host.
        (
            "10.0.0.1",
            &[(FOR, "198.51.100.1"), HTTPS, ("x-forwarded-host", "a.example")],
            Ok("198.51.100.1 at a.example"),
        ),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), HTTPS, ("x-forwarded-host", "a, b")], Err(ForwardingError::ManyHosts)),
        // The other header, which this proxy does not set, cannot name somebody else.
        ("10.0.0.1", &[("forwarded", "for=203.0.113.9;proto=https")], Err(ForwardingError::Disagree)),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), HTTPS, ("forwarded", "for=203.0.113.9")], Err(ForwardingError::Disagree)),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), HTTPS, ("forwarded", "for=198.51.100.1")], Ok("198.51.100.1")),
        ("10.0.0.1", &[(FOR, "198.51.100.1"), HTTPS, ("forwarded", "for=\"")], Err(ForwardingError::Unreadable)),
    ];
    for (from, pairs, expected) in cases {
        let expected = expected.map(str::to_owned);
        assert_eq!(client(&forwarding, from, pairs), expected, "{from} {pairs:?}");
    }
}

#[test]
fn the_standard_header_counts_from_the_named_alone() {
    const NAME: &str = "forwarded";
    let forwarding = forwarding(&["10.0.0.0/24"], "forwarded");
    let cases: &[Case<'_>] = &[
        ("192.0.2.1", &[(NAME, "for=198.51.100.1;proto=https")], Ok("192.0.2.1")),
        ("10.0.0.1", &[(NAME, "for=198.51.100.1;proto=https;host=a.example")], Ok("198.51.100.1 at a.example")),
        ("10.0.0.1", &[(NAME, "for=203.0.113.9;proto=http, for=198.51.100.1;proto=https")], Ok("198.51.100.1")),
        (
            "10.0.0.1",
            &[(NAME, "for=198.51.100.1;proto=http, for=10.0.0.2;proto=https")],
            Ok("198.51.100.1 in the clear"),
        ),
        (
            "10.0.0.1",
            &[(NAME, "for=198.51.100.1;proto=https, for=10.0.0.2;proto=http")],
            Ok("198.51.100.1 in the clear"),
        ),
        (
            "10.0.0.1",
            &[(NAME, "for=198.51.100.1"), (NAME, "for=10.0.0.2;proto=https")],
            Err(ForwardingError::NoProtocol),
        ),
        ("10.0.0.1", &[(NAME, "for=unknown;proto=https")], Ok("10.0.0.1")),
        ("10.0.0.1", &[(NAME, "proto=https")], Ok("10.0.0.1")),
        ("10.0.0.1", &[(NAME, "for=198.51.100.1;proto=https, \"")], Err(ForwardingError::Unreadable)),
        ("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")], Err(ForwardingError::Disagree)),
        ("10.0.0.1", &[(NAME, "for=198.51.100.1;proto=https"), ("x-forwarded-proto", "http")], Ok("198.51.100.1")),
    ];
    for (from, pairs, expected) in cases {
        let expected = expected.map(str::to_owned);
        assert_eq!(client(&forwarding, from, pairs), expected, "{from} {pairs:?}");
    }
}

#[test]
fn a_proxy_on_this_machine_that_names_nobody_vouches_for_nobody() {
    for from in ["127.0.0.1", "unix"] {
        let usual = forwarding(&["127.0.0.1", "unix"], "x-forwarded-for");
        let clear = Ok(format!("{from} in the clear"));
        assert_eq!(client(&usual, from, &[("x-forwarded-proto", "http")]), clear);
        assert_eq!(client(&usual, from, &[("x-forwarded-for", "unknown"), ("x-forwarded-proto", "http")]), clear);
        let standard = forwarding(&["127.0.0.1", "unix"], "forwarded");
        assert_eq!(client(&standard, from, &[("forwarded", "for=_hidden;proto=http")]), clear);
    }
}
