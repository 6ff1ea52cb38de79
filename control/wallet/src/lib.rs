//! How credentials are sealed, and which service may ask the wallet for what.
//!
//! Pure: keys and random bytes are passed in. `wallet-daemon` keeps the records.

mod grant;
mod key;
mod message;
mod seal;

pub use grant::Grant;
pub use key::{Key, Nonce};
pub use message::{Credential, MAX_FRAME, MAX_LOGIN, MAX_PASSWORD, Request, Response, TooLong};
pub use seal::{Owner, RecordName, SealRandom, Unsealable, open, open_tenant_key, seal, seal_tenant_key};
