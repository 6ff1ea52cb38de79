//! Host names as a server name extension may carry them (RFC 6066 §3, RFC 1123 §2.1).

use crate::HelloError;

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// The name in lower case, when it is a DNS host name and not an address.
pub(crate) fn host_name(bytes: &[u8]) -> Result<String, HelloError> {
    let name = std::str::from_utf8(bytes).map_err(|_| HelloError::BadName)?.to_ascii_lowercase();
    let is_plain = name.len() <= MAX_NAME && name.split('.').all(is_label);
    // A last label of digits only would be an IPv4 address (RFC 3696 §2), which RFC 6066 forbids here.
    let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if is_plain && !is_address { Ok(name) } else { Err(HelloError::BadName) }
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_lowered_and_everything_else_is_refused() {
        assert_eq!(host_name(b"Login.ACME.test").as_deref(), Ok("login.acme.test"));
        assert_eq!(host_name(b"_x.a-b.c3").as_deref(), Ok("_x.a-b.c3"));
        let long = "a.".repeat(127) + "b";
        for bad in ["", ".", "a.", ".a", "a..b", "-a", "a-", "10.0.0.1", "::1", "a b", "a\0b", "a/b", "ü", "*.a", &long]
        {
            assert_eq!(host_name(bad.as_bytes()), Err(HelloError::BadName), "{bad:?}");
        }
        assert_eq!(host_name(b"\xff\xfe"), Err(HelloError::BadName));
    }
}
