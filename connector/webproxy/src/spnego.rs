//! The first message of SPNEGO (RFC 4178 §4.2.1) around a Kerberos token: what Negotiate carries.

/// 1.3.6.1.5.5.2
const SPNEGO: &[u8] = &[0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];
/// 1.2.840.113554.1.2.2
const KERBEROS: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];

/// A `NegTokenInit` that offers Kerberos only and carries `token`, framed as RFC 2743 §3.1 says.
#[must_use]
pub fn spnego_first(token: &[u8]) -> Vec<u8> {
    let kinds = wrap(0xa0, &wrap(0x30, KERBEROS));
    let token = wrap(0xa2, &wrap(0x04, token));
    let init = wrap(0xa0, &wrap(0x30, &[kinds, token].concat()));
    wrap(0x60, &[SPNEGO, &init].concat())
}

/// DER: tag, length in as few bytes as do, content.
fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut bytes = vec![tag];
    match significant.as_slice() {
        [] => bytes.push(0),
        [short] if *short < 0x80 => bytes.push(*short),
        long => {
            bytes.push(0x80 | u8::try_from(long.len()).unwrap_or(0x7f));
            bytes.extend_from_slice(long);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_lengths_are_as_short_as_der_wants() {
        for (length, head) in [
            (0, vec![4, 0]),
            (127, vec![4, 127]),
            (128, vec![4, 0x81, 128]),
            (256, vec![4, 0x82, 1, 0]),
            (70_000, vec![4, 0x83, 1, 0x11, 0x70]),
        ] {
            let wrapped = wrap(4, &vec![7; length]);
            assert!(wrapped.starts_with(&head) && wrapped.len() == head.len() + length, "{length}");
        }
        assert!(spnego_first(b"x").starts_with(&[0x60, 0x20, 0x06, 0x06]), "{:02x?}", spnego_first(b"x"));
    }
}
