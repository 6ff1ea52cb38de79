//! What worked with a proxy last time, so that the next connection needs no round of its own for the challenge.

use crate::digest::DigestSession;

/// How a proxy was last satisfied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Nothing known: ask first.
    #[default]
    Nothing,
    /// Basic was taken.
    Basic,
    /// Digest was taken; its nonce may be good for more.
    Digest(DigestSession),
    /// NTLM or Negotiate was taken.
    Token(crate::Scheme),
}
