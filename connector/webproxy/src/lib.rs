//! The rules of getting out through a customer's web proxy: which proxy, what to ask it, how to answer its challenges.
//!
//! Pure: bytes in, bytes out; randomness and time are passed in. A shell asks [`Settings::choose`] which ways lead to
//! a target, drives a [`Handshake`] over a connection to the proxy that it made, and feeds what comes back to a
//! [`ReplyReader`].

mod body;
mod challenge;
mod choice;
mod credentials;
mod dead;
mod digest;
mod environment;
mod failure;
mod handshake;
mod hosts;
mod keytab;
mod memory;
mod ntlm;
mod pac;
mod place;
mod refused;
mod reply;
mod request;
mod spnego;

pub use challenge::{Challenge, ChallengeError, MAX_CHALLENGES, challenges};
pub use choice::{Choice, Settings, Source, Way, Why};
pub use credentials::{Credentials, Password};
pub use dead::Dead;
pub use digest::{DigestChallenge, DigestSession};
pub use environment::{Environment, EnvironmentError};
pub use failure::{Failure, Scheme};
pub use handshake::{Abilities, Action, Handshake};
pub use hosts::{HostRules, HostRulesError};
pub use keytab::{Keytab, KeytabError, KeytabKey};
pub use memory::Memory;
pub use ntlm::{NtlmAnswer, NtlmError, ntlm_negotiate};
pub use pac::{PacError, pac_result};
pub use place::{Proxy, ProxyError, Target, TargetError};
pub use refused::Refused;
pub use reply::{MAX_HEAD, MAX_SKIPPED, Reply, ReplyError, ReplyReader};
pub use request::Head;
pub use spnego::spnego_first;
