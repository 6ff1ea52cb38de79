//! Sealed texts for browsers: AES-256-GCM under a key that changes every day.
//!
//! What is sealed for one purpose, tenant or host does not open for another: all three are authenticated.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use sluice_node_identity::{TenantId, UnixTime};

/// Longest text that [`Sealer::open`] looks at; everything that we seal is shorter.
const MAX_SEALED: usize = 8 * 1024;
const SECONDS_PER_DAY: u64 = 86_400;

/// Where random bytes come from; shells pass the operating system's source.
pub trait Randomness {
    /// Fills `out`.
    fn fill(&mut self, out: &mut [u8]);

    /// 128 bits.
    fn bytes16(&mut self) -> [u8; 16] {
        let mut out = [0; 16];
        self.fill(&mut out);
        out
    }
}

impl<F: FnMut(&mut [u8])> Randomness for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// What a sealed text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session cookie of one host.
    Session,
    /// Where to go after logging in.
    Return,
    /// Right to a session on one app host.
    Code,
    /// Proof that a form came from our page in this browser.
    Form,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Return => "return",
            Self::Code => "code",
            Self::Form => "form",
        }
    }
}

/// The seal cannot be made or does not open; says nothing more on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealBroken;

/// Seals and opens with one gateway's keys.
pub(crate) struct Sealer {
    tenant: TenantId,
    root: Prk,
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Sealer {
    pub(crate) fn new(tenant: TenantId, session_key: &[u8; 32]) -> Self {
        Self { tenant, root: Salt::new(HKDF_SHA256, b"sluice gateway seal").extract(session_key) }
    }

    /// Seals `value` for `purpose` on `host`, bound to `bound` as well.
    pub(crate) fn seal<T: Serialize>(
        &self,
        purpose: Purpose,
        host: &str,
        bound: &str,
        value: &T,
        now: UnixTime,
        random: &mut dyn Randomness,
    ) -> Result<String, SealBroken> {
        let mut bytes = serde_json::to_vec(value).map_err(|_| SealBroken)?;
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let key = self.key(now.0 / SECONDS_PER_DAY)?;
        let aad = Aad::from(self.aad(purpose, host, bound));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes).map_err(|_| SealBroken)?;
        let mut whole = nonce.to_vec();
        whole.extend_from_slice(&bytes);
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    /// Opens what [`Sealer::seal`] made today or yesterday.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        host: &str,
        bound: &str,
        text: &str,
        now: UnixTime,
    ) -> Result<T, SealBroken> {
        if text.len() > MAX_SEALED {
            return Err(SealBroken);
        }
        let whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealBroken)?;
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>().ok_or(SealBroken)?;
        let today = now.0 / SECONDS_PER_DAY;
        for day in [today, today.saturating_sub(1)] {
            let aad = Aad::from(self.aad(purpose, host, bound));
            let mut bytes = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            if let Ok(plain) = self.key(day)?.open_in_place(nonce, aad, &mut bytes) {
                return serde_json::from_slice(plain).map_err(|_| SealBroken);
            }
        }
        Err(SealBroken)
    }

    fn key(&self, day: u64) -> Result<LessSafeKey, SealBroken> {
        let mut key = [0; 32];
        let day = day.to_be_bytes();
        let info = [b"day".as_slice(), day.as_slice()];
        let okm = self.root.expand(&info, KeyLength).map_err(|_| SealBroken)?;
        okm.fill(&mut key).map_err(|_| SealBroken)?;
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(|_| SealBroken)?))
    }

    /// Every part is preceded by its length, so that no two lists of parts give the same bytes.
    fn aad(&self, purpose: Purpose, host: &str, bound: &str) -> Vec<u8> {
        let mut aad = Vec::new();
        for part in [purpose.label(), self.tenant.as_str(), host, bound] {
            aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        aad
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn sealer(tenant: &str, key: u8) -> Sealer {
        Sealer::new(tenant.parse().unwrap(), &[key; 32])
    }

    fn counter() -> impl FnMut(&mut [u8]) {
        let mut next = 0u8;
        move |out: &mut [u8]| {
            next = next.wrapping_add(1);
            out.fill(next);
        }
    }

    const NOON: UnixTime = UnixTime(SECONDS_PER_DAY * 20_000 + SECONDS_PER_DAY / 2);

    #[test]
    fn yesterdays_key_opens_and_the_day_before_does_not() {
        let seal = sealer("acme", 1);
        let text = seal.seal(Purpose::Session, "a.test", "", &7u32, NOON, &mut counter()).unwrap();
        assert_eq!(seal.open::<u32>(Purpose::Session, "a.test", "", &text, NOON.plus(SECONDS_PER_DAY)), Ok(7));
        let later = NOON.plus(2 * SECONDS_PER_DAY);
        assert_eq!(seal.open::<u32>(Purpose::Session, "a.test", "", &text, later), Err(SealBroken));
    }

    #[test]
    fn nothing_opens_for_another_purpose_host_tenant_key_or_binding() {
        let seal = sealer("acme", 1);
        let text = seal.seal(Purpose::Code, "a.test", "b", &7u32, NOON, &mut counter()).unwrap();
        assert_eq!(seal.open::<u32>(Purpose::Code, "a.test", "b", &text, NOON), Ok(7));
        assert!(seal.open::<u32>(Purpose::Session, "a.test", "b", &text, NOON).is_err());
        assert!(seal.open::<u32>(Purpose::Code, "b.test", "b", &text, NOON).is_err());
        assert!(seal.open::<u32>(Purpose::Code, "a.testb", "", &text, NOON).is_err());
        assert!(sealer("evil", 1).open::<u32>(Purpose::Code, "a.test", "b", &text, NOON).is_err());
        assert!(sealer("acme", 2).open::<u32>(Purpose::Code, "a.test", "b", &text, NOON).is_err());
    }

    proptest! {
        #[test]
        fn random_text_never_opens_or_panics(text in ".{0,200}", now in any::<u64>()) {
            let seal = sealer("acme", 1);
            prop_assert!(seal.open::<u32>(Purpose::Session, "a.test", "", &text, UnixTime(now)).is_err());
        }

        #[test]
        fn one_changed_bit_breaks_the_seal(bit in 0usize..200) {
            let seal = sealer("acme", 1);
            let text = seal.seal(Purpose::Session, "a.test", "", &7u32, NOON, &mut counter()).unwrap();
            let mut raw = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let bit = bit % (raw.len() * 8);
            raw[bit / 8] ^= 1 << (bit % 8);
            let text = URL_SAFE_NO_PAD.encode(raw);
            prop_assert!(seal.open::<u32>(Purpose::Session, "a.test", "", &text, NOON).is_err());
        }
    }
}
