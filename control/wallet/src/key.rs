//! 256-bit keys and what is derived from them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey},
    hmac,
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Unsealable;

/// A nonce of AES-GCM: random and used once per key.
pub type Nonce = [u8; 12];

/// A 256-bit secret; wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// From 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From what was unsealed.
    ///
    /// # Errors
    /// [`Unsealable`] when it is not 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Unsealable> {
        bytes.try_into().map(Self).map_err(|_| Unsealable)
    }

    /// The bytes, to be sealed or written to the key file.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA-256 of a purpose and parts, each with its length.
    #[must_use]
    pub fn mac(&self, purpose: &str, parts: &[&str]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, &prefixed(purpose, parts));
        let mut out = [0; 32];
        out.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        out
    }

    pub(crate) fn encrypt(&self, nonce: Nonce, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut bytes = plain.to_vec();
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        self.aead()?.seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes).map_err(|_| Unsealable)?;
        Ok(bytes)
    }

    pub(crate) fn decrypt(&self, nonce: Nonce, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        let length = self.aead()?.open_in_place(nonce, Aad::from(aad), &mut bytes).map_err(|_| Unsealable)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }

    fn aead(&self) -> Result<LessSafeKey, Unsealable> {
        UnboundKey::new(&AES_256_GCM, &self.0).map(LessSafeKey::new).map_err(|_| Unsealable)
    }
}

/// Purpose and parts, each behind its length: no two lists have the same bytes.
pub(crate) fn prefixed(purpose: &str, parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in std::iter::once(&purpose).chain(parts) {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}
