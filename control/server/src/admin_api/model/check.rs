//! What texts and host names must look like.

use sluice_node_identity::is_plain;

use crate::admin_api::ApiError;

/// A text for people: 1 to 200 characters, all of them plain.
pub(crate) fn check_label(what: &str, text: &str) -> Result<(), ApiError> {
    let sane = (1..=200).contains(&text.chars().count()) && text.chars().all(is_plain);
    if sane {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("{what} is 1 to 200 characters without control and invisible characters")))
    }
}

/// A host name: lower case, at least two labels.
pub(crate) fn check_host(what: &str, host: &str) -> Result<(), ApiError> {
    let label = |label: &str| {
        let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && end(bytes.first())
            && end(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
    };
    let numeric = host.split('.').next_back().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.len() <= 253 && host.contains('.') && host.split('.').all(label) && !numeric {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("{what} is a lower-case host name such as desk.acme.example")))
    }
}
