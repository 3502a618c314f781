//! Addresses of the Internet and the networks that have them.
//!
//! Owns that an address of version 4 is one address, however it is written: `::ffff:10.0.0.1` is `10.0.0.1`, alone and in a network. Must
//! never let the form in which an address comes decide whether it is in a list of what is blocked.

use std::net::IpAddr;

/// Reads an address; one of version 4 that is written as one of version 6 (RFC 4291 §2.5.5.2) becomes what it is.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether a network (`192.168.0.0/24`) has an address. None has an address of the other version.
pub(super) fn has(network: &str, address: IpAddr) -> Option<bool> {
    /// How many bits of an address of version 6 say that it is one of version 4.
    const MAPPED: u32 = 96;
    let (base, bits) = network.split_once('/')?;
    let (base, bits): (IpAddr, u32) = (base.parse().ok()?, prefix(bits)?);
    let (base, bits) = match base.to_canonical() {
        canonical @ IpAddr::V4(_) if base.is_ipv6() && bits >= MAPPED => (canonical, bits - MAPPED),
        _ => (base, bits),
    };
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Some(address.to_bits() & mask == base.to_bits() & mask)
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Some(address.to_bits() & mask == base.to_bits() & mask)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) if bits <= 128 => Some(false),
        (IpAddr::V6(_), IpAddr::V4(_)) if bits <= 32 => Some(false),
        _ => None,
    }
}

/// A number of bits, without a sign and without noughts before it: some would read those as octal.
fn prefix(text: &str) -> Option<u32> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { text.parse().ok() } else { None }
}
