//! What a proxy auto-configuration script returns.

use thiserror::Error;

use crate::{choice::Way, place::Proxy};

/// Why a script's result cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PacError {
    /// An entry that is neither `DIRECT` nor a kind of proxy with its `host:port`.
    #[error("the PAC script returned {0:?}, which is not a list of DIRECT, PROXY host:port and HTTPS host:port")]
    Malformed(String),
    /// Only kinds we do not speak.
    #[error("the PAC script names only SOCKS proxies, which are not spoken; add a PROXY or HTTPS entry for this host")]
    OnlySocks,
    /// Too long.
    #[error("the PAC script returned more than {MAX_RESULT} bytes or {MAX_WAYS} entries")]
    TooLong,
}

/// Reads `PROXY h:p; HTTPS h:p; DIRECT`. Nothing at all means `DIRECT`, as in browsers; SOCKS entries are passed over.
///
/// # Errors
/// [`PacError`]. One malformed entry refuses the whole: a half-understood script may lead around a rule.
pub fn pac_result(text: &str) -> Result<Vec<Way>, PacError> {
    if text.len() > MAX_RESULT {
        return Err(PacError::TooLong);
    }
    let (mut ways, mut socks) = (Vec::new(), false);
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        if ways.len() >= MAX_WAYS {
            return Err(PacError::TooLong);
        }
        let malformed = || PacError::Malformed(entry.chars().take(64).collect());
        let (kind, place) = entry.split_once([' ', '\t']).map_or((entry, ""), |(kind, place)| (kind, place.trim()));
        let tls = match (kind.to_ascii_uppercase().as_str(), place.is_empty()) {
            ("DIRECT", true) => {
                ways.push(Way::Direct);
                continue;
            }
            ("PROXY" | "HTTP", false) => false,
            ("HTTPS", false) => true,
            ("SOCKS" | "SOCKS4" | "SOCKS5", false) => {
                Proxy::at(false, place).map_err(|_| malformed())?;
                socks = true;
                continue;
            }
            _ => return Err(malformed()),
        };
        ways.push(Way::Proxy(Proxy::at(tls, place).map_err(|_| malformed())?));
    }
    if !ways.is_empty() {
        Ok(ways)
    } else if socks {
        Err(PacError::OnlySocks)
    } else {
        Ok(vec![Way::Direct])
    }
}

/// Longest result, bytes.
const MAX_RESULT: usize = 4096;
/// Most entries.
const MAX_WAYS: usize = 16;
