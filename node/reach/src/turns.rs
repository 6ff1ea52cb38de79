//! In which order to try a target's addresses.

/// `addresses` with the two families taking turns, beginning with the family of the first (RFC 8305 §4): if one family
/// does not work here, every second attempt still does. Within a family the order stays. Addresses are of any type that
/// `is_ipv4` can tell apart.
#[must_use]
pub fn in_turns<A: Copy>(addresses: &[A], is_ipv4: fn(&A) -> bool) -> Vec<A> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut leading, mut other): (Vec<A>, Vec<A>) =
        addresses.iter().partition(|address| is_ipv4(address) == is_ipv4(first));
    // What is longer keeps its tail.
    let mut rest = leading.split_off(leading.len().min(other.len()));
    rest.extend(other.split_off(leading.len()));
    leading.into_iter().zip(other).flat_map(|(one, two)| [one, two]).chain(rest).collect()
}
