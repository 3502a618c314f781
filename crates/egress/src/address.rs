//! Which addresses may be connected to: public unicast, and nothing else.
//!
//! Pure. Follows IANA's special-purpose address registries (RFC 6890, RFC 8190) and its list of IPv6 global unicast
//! space. Where a registry calls a block reachable but no platform lives in it (relays, AS112 sinks), it is refused too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks that are refused, as (network, prefix length).
const REFUSED_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),            // "this network", RFC 791
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private, RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared by carriers, RFC 6598; some clouds keep their metadata there
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback, RFC 1122
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's platform endpoint: public by number, internal by use
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link local, RFC 3927: most clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private, RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments, RFC 6890
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation, RFC 5737
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // AS112, RFC 7535
    (Ipv4Addr::new(192, 52, 193, 0), 24),  // multicast tunnelling, RFC 7450
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays, RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private, RFC 1918
    (Ipv4Addr::new(192, 175, 48, 0), 24),  // AS112, RFC 7534
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarking, RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation, RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation, RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast, RFC 5771
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved and broadcast, RFC 1112, RFC 919
];

/// The one IPv6 block from which global unicast addresses are given out (RFC 4291 §2.4, IANA).
const UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Blocks within [`UNICAST_V6`] that are refused. Everything outside it (loopback, unique local, link local, NAT64,
/// v4-compatible, discard, multicast) is refused without being listed.
const REFUSED_V6: &[(Ipv6Addr, u32)] = &[
    // Protocol assignments, RFC 2928: Teredo 2001::/32, benchmarking 2001:2::/48, ORCHID 2001:10::/28 and 2001:20::/28.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32), // documentation, RFC 3849
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),      // 6to4, RFC 3056: carries any IPv4 address inside
    (Ipv6Addr::new(0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112, RFC 7534
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16),      // the 6bone, handed back, RFC 3701
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),      // documentation, RFC 9637
];

/// The address to connect to, in its plain form, or `None` where it may not be connected to.
///
/// A v4-mapped address (`::ffff:a.b.c.d`) is judged, and given back, as the IPv4 address that the kernel would use.
pub fn admit(address: IpAddr) -> Option<IpAddr> {
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let public = match address {
        IpAddr::V4(v4) => !REFUSED_V4.iter().any(|block| within_v4(v4, *block)),
        IpAddr::V6(v6) => {
            within_v6(v6, UNICAST_V6) && !REFUSED_V6.iter().any(|block| within_v6(v6, *block)) && !is_isatap(v6)
        }
    };
    public.then_some(address)
}

fn within_v4(address: Ipv4Addr, (network, prefix): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

fn within_v6(address: Ipv6Addr, (network, prefix): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

/// An ISATAP interface identifier (RFC 5214 §6.1) carries an IPv4 address under any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let [_, _, _, _, flags, marker, _, _] = address.segments();
    marker == 0x5efe && flags & !0x0200 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_unicast_is_admitted() {
        let refused = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.168.255.255",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "1fff:ffff::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2620:4f:8000::1",
            "2a00:1450:4001::5efe:7f00:1",
            "2a00:1450:4001:0:200:5efe:a00:1",
            "3ffe::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for text in refused {
            assert_eq!(admit(text.parse().unwrap()), None, "{text}");
        }
        let admitted = [
            ("1.0.0.1", "1.0.0.1"),
            ("8.8.8.8", "8.8.8.8"),
            ("9.255.255.255", "9.255.255.255"),
            ("11.0.0.0", "11.0.0.0"),
            ("100.63.255.255", "100.63.255.255"),
            ("100.128.0.0", "100.128.0.0"),
            ("126.255.255.255", "126.255.255.255"),
            ("128.0.0.0", "128.0.0.0"),
            ("168.63.129.15", "168.63.129.15"),
            ("169.253.255.255", "169.253.255.255"),
            ("172.15.255.255", "172.15.255.255"),
            ("172.32.0.0", "172.32.0.0"),
            ("192.0.1.0", "192.0.1.0"),
            ("192.167.255.255", "192.167.255.255"),
            ("198.17.255.255", "198.17.255.255"),
            ("198.20.0.0", "198.20.0.0"),
            ("223.255.255.255", "223.255.255.255"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
            ("2000::1", "2000::1"),
            ("2001:200::1", "2001:200::1"),
            ("2001:4860:4860::8888", "2001:4860:4860::8888"),
            ("2003::1", "2003::1"),
            ("2606:4700::1111", "2606:4700::1111"),
            ("3fff:1000::1", "3fff:1000::1"),
        ];
        for (text, connected) in admitted {
            assert_eq!(admit(text.parse().unwrap()), Some(connected.parse().unwrap()), "{text}");
        }
    }
}
