//! `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case.

use thiserror::Error;

use crate::{
    credentials::{Credentials, Password},
    hosts::HostRules,
    place::{self, Proxy, ProxyError},
};

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The proxy and the name of the variable that names it; `None`: go directly.
    pub proxy: Option<(Proxy, &'static str)>,
    /// User and password that stood in it. Whoever writes them there means Basic, so Basic in clear is allowed.
    pub credentials: Option<Credentials>,
    /// Who is reached directly.
    pub no_proxy: HostRules,
    /// Entries of that list that are no host rules, with the variable's name. The environment is everybody's: other
    /// programs pass over what they do not understand (`192.168.*`, `<local>`), so they name nobody here either.
    pub ignored: Option<(&'static str, Vec<String>)>,
}

/// Why the environment is not understood. The value is not repeated: it may hold a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// The proxy.
    #[error("the environment's {variable}: {error}")]
    Proxy {
        /// Which variable.
        variable: &'static str,
        /// What is wrong.
        error: ProxyError,
    },
    /// Percent-encoding or control characters in the credentials.
    #[error("the environment's {variable}: user or password is not well encoded; write special characters as %XX")]
    Encoding {
        /// Which variable.
        variable: &'static str,
    },
}

impl Environment {
    /// Reads it through `variable`. The lower-case name wins, as in curl.
    ///
    /// # Errors
    /// [`EnvironmentError`] names the variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let first = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find_map(|name| variable(name).filter(|value| !value.trim().is_empty()).map(|v| (name, v)))
        };
        let (no_proxy, ignored) = match first(["no_proxy", "NO_PROXY"]) {
            Some((variable, text)) => {
                let (rules, others) = HostRules::read_some(&text);
                (rules, (!others.is_empty()).then_some((variable, others)))
            }
            None => Default::default(),
        };
        let Some((variable, text)) =
            first(["https_proxy", "HTTPS_PROXY"]).or_else(|| first(["all_proxy", "ALL_PROXY"]))
        else {
            return Ok(Self { no_proxy, ignored, ..Self::default() });
        };
        let wrong = |error| EnvironmentError::Proxy { variable, error };
        let (tls, authority) = place::split(&text).map_err(wrong)?;
        let (login, at) = match authority.rsplit_once('@') {
            Some((login, at)) => (Some(login), at),
            None => (None, authority),
        };
        let proxy = Proxy::at(tls, at).map_err(wrong)?;
        let credentials = login.map(|login| credentials(login).ok_or(EnvironmentError::Encoding { variable }));
        Ok(Self { proxy: Some((proxy, variable)), credentials: credentials.transpose()?, no_proxy, ignored })
    }
}

fn credentials(login: &str) -> Option<Credentials> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (user, password) = (decode(user)?, decode(password)?);
    let (domain, user) = Credentials::split_account(&user);
    Some(Credentials { user, domain, password: Password::new(password), basic_in_clear: true })
}

/// RFC 3986 §2.1.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            rest = after;
            let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(digits, 16).ok()?
        } else {
            *first
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}
