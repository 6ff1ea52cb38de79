//! Passwords (argon2id): right or wrong, after the same work whether the user exists or not.

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier, password_hash::SaltString};
use sluice_control_domain::{UserRecord, compile::EVERYONE};
use sluice_node_identity::api::VerifiedUser;

/// Longest password that is looked at, bytes.
const MAX_PASSWORD: usize = 1024;

/// Checks passwords.
#[derive(Clone)]
pub struct Factors {
    /// Hash of nobody's password, with the parameters that new hashes get.
    decoy: String,
}

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Factors")
    }
}

impl Factors {
    /// Prepares the decoy. `random` makes its password unguessable.
    ///
    /// # Errors
    /// When argon2 refuses its own default parameters.
    pub fn new(random: &[u8; 32]) -> Result<Self, argon2::password_hash::Error> {
        let salt = SaltString::encode_b64(random.get(..16).unwrap_or_default())?;
        Ok(Self { decoy: Argon2::default().hash_password(random, &salt)?.to_string() })
    }

    /// Whether `password` is the user's. Costs tens of milliseconds of processor time: keep it off the event loop.
    #[must_use]
    pub fn verify(&self, user: Option<&UserRecord>, password: &str) -> bool {
        let good = user.filter(|user| !user.disabled && password.len() <= MAX_PASSWORD);
        let hash = good.map_or(self.decoy.as_str(), |user| user.password_hash.as_str());
        let password = password.as_bytes().get(..password.len().min(MAX_PASSWORD)).unwrap_or_default();
        let right =
            PasswordHash::new(hash).is_ok_and(|parsed| Argon2::default().verify_password(password, &parsed).is_ok());
        right && good.is_some()
    }
}

/// What a gateway is told about a user whose password was right: his groups, and the one that everybody is in.
#[must_use]
pub fn verified(user: &UserRecord) -> VerifiedUser {
    let own = user.groups.iter().filter(|group| *group != EVERYONE).cloned();
    VerifiedUser {
        user: user.id.clone(),
        email: user.email.clone(),
        display_name: user.display_name.clone(),
        groups: std::iter::once(EVERYONE.to_owned()).chain(own).collect(),
    }
}
