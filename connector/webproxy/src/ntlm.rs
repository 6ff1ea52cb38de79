//! NTLM version 2 (MS-NLMP): the client's two messages.
//!
//! Session security is not negotiated: behind a proxy's 200 nothing is signed or sealed by NTLM. Versions 1 and LM are
//! never answered.

use hmac::{Hmac, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::credentials::Credentials;

/// Why a proxy's challenge cannot be answered. The proxy's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NtlmError {
    /// Not a CHALLENGE_MESSAGE.
    #[error("its NTLM challenge is malformed")]
    Malformed,
    /// [`MAX_CHALLENGE`].
    #[error("its NTLM challenge is longer than {MAX_CHALLENGE} bytes")]
    TooLong,
}

/// The first message, NEGOTIATE (MS-NLMP §2.2.1.1).
#[must_use]
pub fn ntlm_negotiate() -> Vec<u8> {
    let mut message = [SIGNATURE, &1_u32.to_le_bytes(), &OURS.to_le_bytes()].concat();
    // Neither domain nor workstation is named yet.
    message.extend_from_slice(&[0; 16]);
    message
}

/// What AUTHENTICATE is made of, besides the challenge.
#[derive(Clone, Copy, Debug)]
pub struct NtlmAnswer<'a> {
    /// As whom.
    pub credentials: &'a Credentials,
    /// What this machine is called.
    pub workstation: &'a str,
    /// Seconds since 1970, for challenges without a time of their own.
    pub now: u64,
    /// Never used twice.
    pub random: [u8; 8],
}

impl NtlmAnswer<'_> {
    /// The third message, AUTHENTICATE (MS-NLMP §2.2.1.3), to the proxy's second.
    ///
    /// # Errors
    /// [`NtlmError`] when that is none.
    pub fn to(&self, challenge: &[u8]) -> Result<Vec<u8>, NtlmError> {
        let challenge = Challenge::read(challenge)?;
        let key = self.key();
        let stamped = challenge.time.is_some();
        // FILETIME: tenths of microseconds since 1601.
        let own = self.now.saturating_add(EPOCH_OFFSET).saturating_mul(10_000_000).to_le_bytes();
        let time = challenge.time.unwrap_or(own);
        let pairs = if stamped { with_flags(&challenge.pairs) } else { challenge.pairs.clone() };
        let temp = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &time, &self.random, &[0; 4], &pairs, &[0; 4]].concat();
        let proof = hmac_md5(key.as_slice(), &[&challenge.nonce, &temp]);
        let session = hmac_md5(key.as_slice(), &[&proof]);
        // MS-NLMP §3.1.5.1.2: whoever states the time gets no LMv2 response, but a check over all three messages.
        let weak = if stamped {
            vec![0; 24]
        } else {
            [&hmac_md5(key.as_slice(), &[&challenge.nonce, &self.random])[..], &self.random].concat()
        };
        let strong = [&proof[..], &temp].concat();
        let flags = OURS & (challenge.flags | KEPT);
        let mut message = self.message(flags, &weak, &strong);
        if stamped {
            let check = hmac_md5(&session, &[&ntlm_negotiate(), challenge.whole, &message]);
            if let Some(place) = message.get_mut(MIC..MIC.saturating_add(check.len())) {
                place.copy_from_slice(&check);
            }
        }
        Ok(message)
    }

    /// NTOWFv2 (MS-NLMP §3.3.2).
    fn key(&self) -> Zeroizing<[u8; 16]> {
        let password = Zeroizing::new(utf16(self.credentials.password.expose()));
        let hash = Zeroizing::new(<[u8; 16]>::from(Md4::digest(&*password)));
        let user = utf16(&upper(&self.credentials.user));
        Zeroizing::new(hmac_md5(hash.as_slice(), &[&user, &utf16(&self.credentials.domain)]))
    }

    fn message(&self, flags: u32, weak: &[u8], strong: &[u8]) -> Vec<u8> {
        let names = [&self.credentials.domain, &self.credentials.user, self.workstation].map(utf16);
        let [domain, user, workstation] = &names;
        let mut head = [SIGNATURE, &3_u32.to_le_bytes()].concat();
        let mut payload: Vec<u8> = Vec::new();
        for field in [weak, strong, domain, user, workstation, &[]] {
            // Names are bounded by configuration, the rest by MAX_CHALLENGE: 16 bits are enough.
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX).to_le_bytes();
            let at = u32::try_from(HEAD.saturating_add(payload.len())).unwrap_or(u32::MAX).to_le_bytes();
            head.extend([length, length].concat());
            head.extend(at);
            payload.extend_from_slice(field);
        }
        head.extend(flags.to_le_bytes());
        // Version (none) and the place of the check.
        head.extend([0; HEAD - MIC + 8]);
        head.extend(payload);
        head
    }
}

/// CHALLENGE_MESSAGE (MS-NLMP §2.2.1.2).
#[derive(Debug)]
struct Challenge<'a> {
    whole: &'a [u8],
    flags: u32,
    nonce: [u8; 8],
    /// AV_PAIRs with their end; just the end when there are none.
    pairs: Vec<u8>,
    /// MsvAvTimestamp.
    time: Option<[u8; 8]>,
}

impl<'a> Challenge<'a> {
    fn read(whole: &'a [u8]) -> Result<Self, NtlmError> {
        if whole.len() > MAX_CHALLENGE {
            return Err(NtlmError::TooLong);
        }
        let read = || {
            (whole.get(..8)? == SIGNATURE && word(whole, 8)? == 2).then_some(())?;
            let flags = word(whole, 20)?;
            let nonce = whole.get(24..32)?.try_into().ok()?;
            // Old servers have no such field, whatever their flags say (squid's ntlm_fake_auth has the target's name
            // there): what points outside the message is none.
            let info = match (flags & TARGET_INFO != 0, whole.get(40..48)) {
                (true, Some(place)) => {
                    let length = usize::from(u16::from_le_bytes(place.get(..2)?.try_into().ok()?));
                    let at = usize::try_from(word(place, 4)?).ok()?;
                    at.checked_add(length).and_then(|end| whole.get(at..end)).unwrap_or_default()
                }
                _ => &[],
            };
            let (pairs, time) = pairs(info)?;
            Some(Self { whole, flags, nonce, pairs, time })
        };
        read().ok_or(NtlmError::Malformed)
    }
}

/// AV_PAIRs up to their end, which is added, and the time among them (MS-NLMP §2.2.2.1).
fn pairs(info: &[u8]) -> Option<(Vec<u8>, Option<[u8; 8]>)> {
    let (mut kept, mut time, mut rest) = (Vec::new(), None, info);
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(4)?;
        let length = usize::from(u16::from_le_bytes(head.get(2..)?.try_into().ok()?));
        let (value, after) = after.split_at_checked(length)?;
        let kind = u16::from_le_bytes(head.get(..2)?.try_into().ok()?);
        match kind {
            AV_END => break,
            AV_TIME => time = Some(value.try_into().ok()?),
            _ => {}
        }
        // Our own flags go there instead.
        if kind != AV_FLAGS {
            kept.extend_from_slice(head);
            kept.extend_from_slice(value);
        }
        rest = after;
    }
    kept.extend_from_slice(&[0; 4]);
    Some((kept, time))
}

/// Adds MsvAvFlags: the message carries a check.
fn with_flags(pairs: &[u8]) -> Vec<u8> {
    let before_end = pairs.get(..pairs.len().saturating_sub(4)).unwrap_or_default();
    [before_end, &AV_FLAGS.to_le_bytes(), &4_u16.to_le_bytes(), &2_u32.to_le_bytes(), &[0; 4]].concat()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// In capitals as Windows has them: letter by letter (`RtlUpcaseUnicodeString`). What becomes several stays as it is.
fn upper(text: &str) -> String {
    let one = |letter: char| {
        let mut capital = letter.to_uppercase();
        match (capital.next(), capital.next()) {
            (Some(capital), None) => capital,
            _ => letter,
        }
    };
    text.chars().map(one).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // Any length of key is taken.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 16] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

const SIGNATURE: &[u8] = b"NTLMSSP\0";
/// Unicode, OEM, target asked for, NTLM, always sign, extended session security, target info, 128 and 56 bits.
const OURS: u32 = 0xa088_8207;
/// Of ours, what stands whether or not the proxy repeats it: Unicode and NTLM.
const KEPT: u32 = 0x0000_0201;
/// NTLMSSP_NEGOTIATE_TARGET_INFO.
const TARGET_INFO: u32 = 0x0080_0000;
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIME: u16 = 7;
/// Where the check stands in AUTHENTICATE, bytes.
const MIC: usize = 72;
/// Length of AUTHENTICATE before its payload, bytes.
const HEAD: usize = 88;
/// From 1601 to 1970, seconds.
const EPOCH_OFFSET: u64 = 11_644_473_600;
/// Longest challenge, bytes.
const MAX_CHALLENGE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::Password;

    fn credentials() -> Credentials {
        let password = Password::new("Password");
        Credentials { user: "User".into(), domain: "Domain".into(), password, basic_in_clear: false }
    }

    fn answer(credentials: &Credentials) -> NtlmAnswer<'_> {
        NtlmAnswer { credentials, workstation: "COMPUTER", now: 0, random: [0xaa; 8] }
    }

    fn challenge(info: &[u8]) -> Vec<u8> {
        let mut message = [SIGNATURE, &2_u32.to_le_bytes(), &[0; 8], &0xe28a_8233_u32.to_le_bytes()].concat();
        message.extend([1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        message.extend([0; 8]);
        let length = u16::try_from(info.len()).unwrap().to_le_bytes();
        message.extend([length, length].concat());
        message.extend(48_u32.to_le_bytes());
        message.extend(info);
        message
    }

    fn info(time: Option<[u8; 8]>) -> Vec<u8> {
        let pair = |kind: u16, value: &[u8]| {
            [&kind.to_le_bytes()[..], &u16::try_from(value.len()).unwrap().to_le_bytes(), value].concat()
        };
        let time = time.map(|time| [pair(AV_TIME, &time), pair(AV_FLAGS, &[1, 0, 0, 0])].concat()).unwrap_or_default();
        [pair(2, &utf16("Domain")), pair(1, &utf16("Server")), time, pair(0, &[])].concat()
    }

    fn field(message: &[u8], number: usize) -> &[u8] {
        let at = 12 + number * 8;
        let length = usize::from(u16::from_le_bytes(message[at..at + 2].try_into().unwrap()));
        let place = word(message, at + 4).unwrap() as usize;
        &message[place..place + length]
    }

    #[test]
    fn c3_ntlm_names_are_put_in_capitals_letter_by_letter() {
        assert_eq!(upper("jürgen.groß"), "JÜRGEN.GROß");
        assert_eq!(upper("ŉ.ﬁlip-éa"), "ŉ.ﬁLIP-ÉA");
    }

    /// MS-NLMP §4.2.4, whose messages state no time.
    #[test]
    fn c3_ntlm_answers_as_the_standards_example() {
        let credentials = credentials();
        let key = answer(&credentials).key();
        assert_eq!(hex(key.as_slice()), "0c868a403bfd7a93a3001ef22ef02e3f");
        let temp_time = [0; 8];
        let temp = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &temp_time, &[0xaa; 8], &[0; 4], &info(None), &[0; 4]].concat();
        let proof = hmac_md5(key.as_slice(), &[&[1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef], &temp]);
        assert_eq!(hex(&proof), "68cd0ab851e51c96aabc927bebef6a1c");
        assert_eq!(hex(&hmac_md5(key.as_slice(), &[&proof])), "8de40ccadbc14a82f15cb0ad0de95ca3");
        let message = answer(&credentials).to(&challenge(&info(None))).unwrap();
        assert_eq!(hex(field(&message, 0)), "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa");
        let strong = field(&message, 1);
        assert_eq!(strong.len(), 16 + temp.len());
        assert_eq!(
            strong[16..32],
            [&[1, 1, 0, 0, 0, 0, 0, 0][..], &116_444_736_000_000_000_u64.to_le_bytes()].concat()
        );
        let expected = [&strong[32..][..8], &[0; 4], &info(None), &[0; 4]].concat();
        assert_eq!(strong[32..], expected);
        let names: Vec<&[u8]> = (2..5).map(|number| field(&message, number)).collect();
        assert_eq!(names, [utf16("Domain"), utf16("User"), utf16("COMPUTER")]);
    }

    #[test]
    fn c3_ntlm_seals_all_three_messages_when_the_proxy_states_its_time() {
        let credentials = credentials();
        let asked = challenge(&info(Some([7; 8])));
        let message = answer(&credentials).to(&asked).unwrap();
        assert_eq!(field(&message, 0), [0; 24]);
        let strong = field(&message, 1);
        assert_eq!(strong[24..32], [7; 8], "the proxy's time, not ours");
        assert!(strong.windows(8).any(|pair| pair == [6, 0, 4, 0, 2, 0, 0, 0]), "no flag for the check");
        assert!(!strong.windows(8).any(|pair| pair == [6, 0, 4, 0, 1, 0, 0, 0]), "the proxy's flags beside ours");
        let session = hmac_md5(answer(&credentials).key().as_slice(), &[&strong[..16]]);
        let mut blank = message.clone();
        blank[MIC..HEAD].fill(0);
        assert_eq!(message[MIC..HEAD], hmac_md5(&session, &[&ntlm_negotiate(), &asked, &blank]));
    }

    #[test]
    fn c3_ntlm_answers_old_challenges_and_refuses_broken_ones() {
        let credentials = credentials();
        let mut old = challenge(&[]);
        old.truncate(40);
        assert!(answer(&credentials).to(&old).is_ok());
        for broken in [&b""[..], b"NTLMSSP\0", &old[..31], &challenge(&[1, 0, 9, 0]), &challenge(&[7, 0, 1, 0, 9])] {
            assert_eq!(answer(&credentials).to(broken), Err(NtlmError::Malformed));
        }
        let mut astray = challenge(&info(None));
        astray[44..48].fill(0xff);
        assert!(answer(&credentials).to(&astray).is_ok(), "no information about the target");
        assert_eq!(answer(&credentials).to(&[0; MAX_CHALLENGE + 1]), Err(NtlmError::TooLong));
    }

    proptest! {
        #[test]
        fn c3_any_ntlm_challenge_is_no_panic(front in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let credentials = credentials();
            let bytes = if front { [&challenge(&[])[..24], &bytes].concat() } else { bytes };
            if let Ok(message) = answer(&credentials).to(&bytes) {
                prop_assert!(message.len() < 2 * bytes.len() + 300);
            }
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
