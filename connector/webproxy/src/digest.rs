//! Digest (RFC 7616, and RFC 2069 where a proxy offers no `qop`).

use std::fmt::Write;

use md5::Md5;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{challenge::Challenge, credentials::Credentials};

/// A challenge we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestChallenge {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    hash: Hash,
    session: bool,
    /// The algorithm as the proxy wrote it, when it did.
    algorithm: Option<String>,
    /// `qop=auth`; without it the older RFC 2069.
    qop: bool,
    userhash: bool,
    utf8: bool,
    /// The nonce before was too old; the password may well be right.
    pub stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha256,
}

impl DigestChallenge {
    /// Reads a `Digest` challenge; `None` when it is not one, or one of a kind we do not answer.
    #[must_use]
    pub fn read(challenge: &Challenge) -> Option<Self> {
        if challenge.scheme != "digest" {
            return None;
        }
        let algorithm = challenge.param("algorithm").map(str::to_owned);
        let (hash, session) = match algorithm.as_deref().unwrap_or("MD5").to_ascii_lowercase().as_str() {
            "md5" => (Hash::Md5, false),
            "md5-sess" => (Hash::Md5, true),
            "sha-256" => (Hash::Sha256, false),
            "sha-256-sess" => (Hash::Sha256, true),
            _ => return None,
        };
        let qop = match challenge.param("qop") {
            None => false,
            Some(offers) => offers.split(',').any(|offer| offer.trim().eq_ignore_ascii_case("auth")).then_some(true)?,
        };
        let says = |name, word: &str| challenge.param(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        // A session key without `qop` has no client nonce to be made of.
        (qop || !session).then_some(())?;
        Some(Self {
            realm: challenge.bytes("realm")?.to_owned(),
            nonce: challenge.bytes("nonce").filter(|nonce| !nonce.is_empty())?.to_owned(),
            opaque: challenge.bytes("opaque").map(<[u8]>::to_vec),
            hash,
            session,
            algorithm,
            qop,
            userhash: says("userhash", "true"),
            utf8: says("charset", "utf-8"),
            stale: says("stale", "true"),
        })
    }

    /// For choosing among several: the larger is the stronger.
    #[must_use]
    pub fn strength(&self) -> (u8, bool, bool) {
        (self.hash as u8, self.qop, self.session)
    }

    /// For people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match (self.hash, self.session) {
            (Hash::Md5, false) => "MD5",
            (Hash::Md5, true) => "MD5-sess",
            (Hash::Sha256, false) => "SHA-256",
            (Hash::Sha256, true) => "SHA-256-sess",
        }
    }
}

/// A challenge and how often it has been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestSession {
    challenge: DigestChallenge,
    count: u32,
    /// The client nonce that a `-sess` key was made with.
    first_cnonce: Option<String>,
}

impl DigestSession {
    /// Nothing answered yet.
    #[must_use]
    pub const fn new(challenge: DigestChallenge) -> Self {
        Self { challenge, count: 0, first_cnonce: None }
    }

    /// The challenge that is answered.
    #[must_use]
    pub const fn challenge(&self) -> &DigestChallenge {
        &self.challenge
    }

    /// Goes on with the nonce that the proxy gave for the next time (`nextnonce`).
    pub fn renew(&mut self, nonce: Vec<u8>) {
        if !nonce.is_empty() {
            self.challenge.nonce = nonce;
            self.count = 0;
            self.first_cnonce = None;
        }
    }

    /// The value of `Proxy-Authorization` for `method` on `uri`. `random` must never be used twice.
    pub fn answer(&mut self, credentials: &Credentials, method: &str, uri: &str, random: [u8; 16]) -> Vec<u8> {
        self.answer_with(credentials, method, uri, &hex(&random))
    }

    fn answer_with(&mut self, credentials: &Credentials, method: &str, uri: &str, cnonce: &str) -> Vec<u8> {
        self.count = self.count.saturating_add(1);
        let account = credentials.account();
        let response = self.response(credentials, method, uri, cnonce);
        let challenge = &self.challenge;
        let mut value = b"Digest ".to_vec();
        if challenge.userhash {
            field(&mut value, "username", challenge.hash.of(&[account.as_bytes(), &challenge.realm]).as_bytes());
        } else if challenge.utf8 && !account.is_ascii() {
            value.extend_from_slice(format!("username*=UTF-8''{}", extended(&account)).as_bytes());
        } else {
            field(&mut value, "username", account.as_bytes());
        }
        let (realm, nonce) = (challenge.realm.as_slice(), challenge.nonce.as_slice());
        for (name, text) in
            [("realm", realm), ("nonce", nonce), ("response", response.as_bytes()), ("uri", uri.as_bytes())]
        {
            value.extend_from_slice(b", ");
            field(&mut value, name, text);
        }
        if let Some(algorithm) = &challenge.algorithm {
            value.extend_from_slice(format!(", algorithm={}", plain(algorithm)).as_bytes());
        }
        if challenge.qop {
            value.extend_from_slice(format!(", qop=auth, nc={:08x}, cnonce=\"{cnonce}\"", self.count).as_bytes());
        }
        if let Some(opaque) = &challenge.opaque {
            value.extend_from_slice(b", ");
            field(&mut value, "opaque", opaque);
        }
        if challenge.userhash {
            value.extend_from_slice(b", userhash=true");
        }
        value
    }

    /// RFC 7616 §3.4.1.
    fn response(&mut self, credentials: &Credentials, method: &str, uri: &str, cnonce: &str) -> String {
        let challenge = &self.challenge;
        let hash = |parts: &[&[u8]]| challenge.hash.of(parts);
        let (account, password) = (credentials.account(), credentials.password.expose());
        let mut key = hash(&[account.as_bytes(), &challenge.realm, password.as_bytes()]);
        if challenge.session {
            let first = self.first_cnonce.get_or_insert_with(|| cnonce.to_owned());
            key = hash(&[key.as_bytes(), &challenge.nonce, first.as_bytes()]);
        }
        let request = hash(&[method.as_bytes(), uri.as_bytes()]);
        let count = format!("{:08x}", self.count);
        if challenge.qop {
            let parts = [key.as_bytes(), &challenge.nonce, count.as_bytes(), cnonce.as_bytes(), b"auth"];
            hash(&[&parts[..], &[request.as_bytes()]].concat())
        } else {
            hash(&[key.as_bytes(), &challenge.nonce, request.as_bytes()])
        }
    }
}

impl Hash {
    /// Of the parts with colons between them.
    fn of(self, parts: &[&[u8]]) -> String {
        let bytes = Zeroizing::new(parts.join(&b':'));
        match self {
            Self::Md5 => hex(&Md5::digest(bytes.as_slice())),
            Self::Sha256 => hex(&Sha256::digest(bytes.as_slice())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        // Writing to a string does not fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Appends `name="value"` with quotes and backslashes escaped; what would end the line is left out.
fn field(to: &mut Vec<u8>, name: &str, value: &[u8]) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b"=\"");
    for b in value.iter().filter(|b| !b.is_ascii_control()) {
        if matches!(b, b'"' | b'\\') {
            to.push(b'\\');
        }
        to.push(*b);
    }
    to.push(b'"');
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// RFC 8187 §3.2.
fn extended(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::{Password, challenges};

    fn answered(field: &str, user: &str, password: &str, method: &str, uri: &str, cnonce: &str) -> String {
        let challenge = DigestChallenge::read(&challenges(field.as_bytes()).unwrap()[0]).unwrap();
        let password = Password::new(password);
        let credentials = Credentials { user: user.to_owned(), domain: String::new(), password, basic_in_clear: false };
        let answer = DigestSession::new(challenge).answer_with(&credentials, method, uri, cnonce);
        String::from_utf8(answer).unwrap()
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn c3_digest_answers_as_the_standards_examples() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let field = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let answer = answered(&field, "Mufasa", "Circle of Life", "GET", "/dir/index.html", cnonce);
            assert!(answer.contains(&format!("response=\"{response}\"")), "{answer}");
            assert!(answer.contains("opaque=\"FQhe/") && answer.contains("nc=00000001"), "{answer}");
        }
    }

    /// RFC 2617 §3.5's older form: no qop.
    #[test]
    fn c3_digest_without_qop_is_the_older_form() {
        let field = "Digest realm=\"r\", nonce=\"n\"";
        let answer = answered(field, "u", "p", "CONNECT", "h:443", "c");
        let md5 = |text: &str| Hash::Md5.of(&[text.as_bytes()]);
        let expected = md5(&format!("{}:n:{}", md5("u:r:p"), md5("CONNECT:h:443")));
        assert!(answer.contains(&format!("response=\"{expected}\"")) && !answer.contains("cnonce"), "{answer}");
    }

    #[test]
    fn c3_digest_session_keys_stay_with_their_first_nonce_and_counts_rise() {
        let field = "Digest realm=\"r\", nonce=\"n\", qop=auth, algorithm=SHA-256-sess";
        let mut session = DigestSession::new(DigestChallenge::read(&challenges(field.as_bytes()).unwrap()[0]).unwrap());
        let password = Password::new("p");
        let credentials = Credentials { user: "u".into(), domain: "D".into(), password, basic_in_clear: false };
        let hash = |text: String| Hash::Sha256.of(&[text.as_bytes()]);
        let key = hash(format!("{}:n:one", hash("D\\u:r:p".into())));
        for (cnonce, count) in [("one", "00000001"), ("two", "00000002")] {
            let answer = session.answer_with(&credentials, "CONNECT", "h:1", cnonce);
            let answer = String::from_utf8(answer).unwrap();
            let expected = hash(format!("{key}:n:{count}:{cnonce}:auth:{}", hash("CONNECT:h:1".into())));
            assert!(answer.contains(&expected) && answer.contains("username=\"D\\\\u\""), "{answer}");
        }
        session.renew(b"m".to_vec());
        let answer = String::from_utf8(session.answer_with(&credentials, "CONNECT", "h:1", "three")).unwrap();
        assert!(answer.contains("nc=00000001"), "{answer}");
    }

    #[test]
    fn c3_digest_hides_the_account_when_asked_and_writes_foreign_letters() {
        let hidden = answered("Digest realm=\"r\", nonce=\"n\", userhash=true, qop=auth", "u", "p", "C", "h:1", "c");
        assert!(hidden.contains(&Hash::Md5.of(&[b"u", b"r"])) && hidden.contains("userhash=true"), "{hidden}");
        let foreign = answered("Digest realm=\"r\", nonce=\"n\", charset=UTF-8", "é", "p", "C", "h:1", "c");
        assert!(foreign.contains("username*=UTF-8''%C3%A9"), "{foreign}");
    }

    /// German and French proxies of old name their realms so.
    #[test]
    fn c3_digest_keeps_a_realm_in_any_encoding_as_it_came() {
        let realm = b"Zugang f\xfcr B\xfcro \xe9t\xe9";
        let challenge = [b"Digest realm=\"", &realm[..], b"\", nonce=\"\xe4\", opaque=\"\xf6\", qop=auth"].concat();
        let challenge = DigestChallenge::read(&challenges(&challenge).unwrap()[0]).unwrap();
        let password = Password::new("p");
        let credentials = Credentials { user: "u".into(), domain: String::new(), password, basic_in_clear: false };
        let answer = DigestSession::new(challenge).answer_with(&credentials, "CONNECT", "h:1", "c");
        let holds = |part: &[u8]| answer.windows(part.len()).any(|window| window == part);
        let key = hex(&Md5::digest([b"u:", &realm[..], b":p"].concat()));
        let request = hex(&Md5::digest(b"CONNECT:h:1"));
        let whole = [key.as_bytes(), b":\xe4:00000001:c:auth:", request.as_bytes()].concat();
        assert!(holds(&[b"realm=\"", &realm[..], b"\""].concat()) && holds(b"opaque=\"\xf6\""));
        assert!(holds(hex(&Md5::digest(whole)).as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }

    #[test]
    fn c3_digest_of_kinds_not_spoken_is_passed_over() {
        for field in [
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
            "Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess",
            "Digest nonce=\"n\"",
            "Digest realm=\"r\", nonce=\"\"",
            "Basic realm=\"r\"",
        ] {
            assert_eq!(DigestChallenge::read(&challenges(field.as_bytes()).unwrap()[0]), None, "{field}");
        }
    }
}
