//! Digest (RFC 7616, and RFC 2069 where a proxy offers no `qop`).

use std::fmt::Write;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::{challenge::Challenge, credentials::Credentials};

/// A challenge we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestChallenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
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
            realm: challenge.param("realm")?.to_owned(),
            nonce: challenge.param("nonce").filter(|nonce| !nonce.is_empty())?.to_owned(),
            opaque: challenge.param("opaque").map(str::to_owned),
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
    pub fn renew(&mut self, nonce: String) {
        if !nonce.is_empty() {
            self.challenge.nonce = nonce;
            self.count = 0;
            self.first_cnonce = None;
        }
    }

    /// The value of `Proxy-Authorization` for `method` on `uri`. `random` must never be used twice.
    pub fn answer(&mut self, credentials: &Credentials, method: &str, uri: &str, random: [u8; 16]) -> String {
        self.answer_with(credentials, method, uri, &hex(&random))
    }

    fn answer_with(&mut self, credentials: &Credentials, method: &str, uri: &str, cnonce: &str) -> String {
        let challenge = &self.challenge;
        self.count = self.count.saturating_add(1);
        let count = format!("{:08x}", self.count);
        let hash = |text: &str| challenge.hash.of(text.as_bytes());
        let account = credentials.account();
        let mut key = hash(&format!("{account}:{}:{}", challenge.realm, credentials.password.expose()));
        if challenge.session {
            let first = self.first_cnonce.get_or_insert_with(|| cnonce.to_owned());
            key = hash(&format!("{key}:{}:{first}", challenge.nonce));
        }
        let request = hash(&format!("{method}:{uri}"));
        let response = if challenge.qop {
            hash(&format!("{key}:{}:{count}:{cnonce}:auth:{request}", challenge.nonce))
        } else {
            hash(&format!("{key}:{}:{request}", challenge.nonce))
        };
        let mut value = "Digest ".to_owned();
        if challenge.userhash {
            field(&mut value, "username", &hash(&format!("{account}:{}", challenge.realm)));
        } else if challenge.utf8 && !account.is_ascii() {
            value.push_str(&format!("username*=UTF-8''{}", extended(&account)));
        } else {
            field(&mut value, "username", &account);
        }
        for (name, text) in [("realm", &challenge.realm), ("nonce", &challenge.nonce), ("response", &response)] {
            value.push_str(", ");
            field(&mut value, name, text);
        }
        value.push_str(", ");
        field(&mut value, "uri", uri);
        if let Some(algorithm) = &challenge.algorithm {
            value.push_str(&format!(", algorithm={}", plain(algorithm)));
        }
        if challenge.qop {
            value.push_str(&format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &challenge.opaque {
            value.push_str(", ");
            field(&mut value, "opaque", opaque);
        }
        if challenge.userhash {
            value.push_str(", userhash=true");
        }
        value
    }
}

impl Hash {
    fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(bytes)),
            Self::Sha256 => hex(&Sha256::digest(bytes)),
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
fn field(to: &mut String, name: &str, value: &str) {
    to.push_str(name);
    to.push_str("=\"");
    for c in value.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            to.push('\\');
        }
        to.push(c);
    }
    to.push('"');
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
        let challenge = DigestChallenge::read(&challenges(field).unwrap()[0]).unwrap();
        let password = Password::new(password);
        let credentials = Credentials { user: user.to_owned(), domain: String::new(), password, basic_in_clear: false };
        DigestSession::new(challenge).answer_with(&credentials, method, uri, cnonce)
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
        let md5 = |text: &str| Hash::Md5.of(text.as_bytes());
        let expected = md5(&format!("{}:n:{}", md5("u:r:p"), md5("CONNECT:h:443")));
        assert!(answer.contains(&format!("response=\"{expected}\"")) && !answer.contains("cnonce"), "{answer}");
    }

    #[test]
    fn c3_digest_session_keys_stay_with_their_first_nonce_and_counts_rise() {
        let field = "Digest realm=\"r\", nonce=\"n\", qop=auth, algorithm=SHA-256-sess";
        let mut session = DigestSession::new(DigestChallenge::read(&challenges(field).unwrap()[0]).unwrap());
        let password = Password::new("p");
        let credentials = Credentials { user: "u".into(), domain: "D".into(), password, basic_in_clear: false };
        let hash = |text: String| Hash::Sha256.of(text.as_bytes());
        let key = hash(format!("{}:n:one", hash("D\\u:r:p".into())));
        for (cnonce, count) in [("one", "00000001"), ("two", "00000002")] {
            let answer = session.answer_with(&credentials, "CONNECT", "h:1", cnonce);
            let expected = hash(format!("{key}:n:{count}:{cnonce}:auth:{}", hash("CONNECT:h:1".into())));
            assert!(answer.contains(&expected) && answer.contains("username=\"D\\\\u\""), "{answer}");
        }
        session.renew("m".into());
        assert!(session.answer_with(&credentials, "CONNECT", "h:1", "three").contains("nc=00000001"));
    }

    #[test]
    fn c3_digest_hides_the_account_when_asked_and_writes_foreign_letters() {
        let hidden = answered("Digest realm=\"r\", nonce=\"n\", userhash=true, qop=auth", "u", "p", "C", "h:1", "c");
        assert!(hidden.contains(&Hash::Md5.of(b"u:r")) && hidden.contains("userhash=true"), "{hidden}");
        let foreign = answered("Digest realm=\"r\", nonce=\"n\", charset=UTF-8", "é", "p", "C", "h:1", "c");
        assert!(foreign.contains("username*=UTF-8''%C3%A9"), "{foreign}");
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
            assert_eq!(DigestChallenge::read(&challenges(field).unwrap()[0]), None, "{field}");
        }
    }
}
