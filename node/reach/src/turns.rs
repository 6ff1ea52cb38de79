//! In which order to try a target's addresses.

use std::net::IpAddr;

/// `addresses` with the two families taking turns, beginning with the family of the first (RFC 8305 §4): if one family
/// does not work here, every second attempt still does. Within a family the order stays.
#[must_use]
pub fn in_turns(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut leading, mut other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    // What is longer keeps its tail.
    let mut rest = leading.split_off(leading.len().min(other.len()));
    rest.extend(other.split_off(leading.len()));
    leading.into_iter().zip(other).flat_map(|(one, two)| [one, two]).chain(rest).collect()
}
