//! What a proxy may be shown.

use std::fmt;

use zeroize::Zeroizing;

/// A password that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The password itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Account, without its domain.
    pub user: String,
    /// Windows domain; empty when there is none. Only NTLM sends it by itself; Digest and Basic send `DOMAIN\user`.
    pub domain: String,
    /// Password.
    pub password: Password,
    /// Whether Basic may be answered over an unencrypted connection, where everybody on the way reads the password.
    pub basic_in_clear: bool,
}

impl Credentials {
    /// As Basic and Digest name the account.
    #[must_use]
    pub fn account(&self) -> String {
        if self.domain.is_empty() { self.user.clone() } else { format!("{}\\{}", self.domain, self.user) }
    }

    /// Splits `DOMAIN\user` as people write it.
    #[must_use]
    pub fn split_account(account: &str) -> (String, String) {
        match account.split_once('\\') {
            Some((domain, user)) => (domain.to_owned(), user.to_owned()),
            None => (String::new(), account.to_owned()),
        }
    }
}
