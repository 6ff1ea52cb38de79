//! `Proxy-Authenticate` (RFC 9110 §11.3, §11.6.1): several challenges in one field, or one in each of several.

use thiserror::Error;

/// What a proxy offers to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme in lower case.
    pub scheme: String,
    /// What follows a scheme that has no parameters (NTLM and Negotiate carry their tokens so).
    pub token68: Option<String>,
    /// Parameters, names in lower case, each once, values without their quotes and as they came: a realm may be in any
    /// encoding, and has to be sent back as it is.
    pub params: Vec<(String, Vec<u8>)>,
}

impl Challenge {
    /// The value of the parameter `name`, when it is text.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// The value of the parameter `name` as it came.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

/// Why a field is not a list of challenges. The proxy's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChallengeError {
    /// Not the grammar of RFC 9110 §11.3.
    #[error("the proxy's challenge is malformed")]
    Malformed,
    /// One parameter twice: which one counts cannot be said.
    #[error("the proxy's challenge names a parameter twice")]
    Twice,
    /// More than [`MAX_CHALLENGES`] challenges, or [`MAX_PARAMS`] parameters.
    #[error("the proxy sends too many challenges")]
    TooMany,
}

/// Reads the challenges of one field's value.
///
/// # Errors
/// [`ChallengeError`]; then none of this field counts.
pub fn challenges(value: &[u8]) -> Result<Vec<Challenge>, ChallengeError> {
    let mut reader = Reader { rest: value };
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        reader.skip(|b| matches!(b, b' ' | b'\t' | b','));
        if reader.rest.is_empty() {
            return Ok(found);
        }
        let word = ascii(reader.token()?).to_ascii_lowercase();
        let spaced = reader.skip(is_blank);
        if reader.peek() == Some(b'=') {
            // A further parameter of the challenge before.
            reader.eat();
            let challenge = found.last_mut().filter(|c| c.token68.is_none()).ok_or(ChallengeError::Malformed)?;
            challenge.add(word, reader.value()?)?;
        } else {
            if found.len() >= MAX_CHALLENGES {
                return Err(ChallengeError::TooMany);
            }
            let token68 = if spaced { reader.token68() } else { None };
            let mut challenge = Challenge { scheme: word, token68, params: Vec::new() };
            if challenge.token68.is_none() && spaced && !matches!(reader.peek(), None | Some(b',')) {
                let name = ascii(reader.token()?).to_ascii_lowercase();
                reader.skip(is_blank);
                if reader.eat() != Some(b'=') {
                    return Err(ChallengeError::Malformed);
                }
                challenge.add(name, reader.value()?)?;
            }
            found.push(challenge);
        }
        reader.skip(is_blank);
        if !matches!(reader.peek(), None | Some(b',')) {
            return Err(ChallengeError::Malformed);
        }
    }
}

impl Challenge {
    fn add(&mut self, name: String, value: Vec<u8>) -> Result<(), ChallengeError> {
        if self.bytes(&name).is_some() {
            return Err(ChallengeError::Twice);
        }
        if self.params.len() >= MAX_PARAMS {
            return Err(ChallengeError::TooMany);
        }
        self.params.push((name, value));
        Ok(())
    }
}

/// Reads `name=value, …` as `Proxy-Authentication-Info` has it (RFC 9110 §11.7.3), and gives the value of `name`.
pub(crate) fn info(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let as_challenge = [b"x ", value].concat();
    challenges(&as_challenge).ok()?.first()?.bytes(name).map(<[u8]>::to_vec)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn eat(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Whether anything was skipped.
    fn skip(&mut self, unwanted: fn(u8) -> bool) -> bool {
        !self.take(self.rest.iter().take_while(|b| unwanted(**b)).count()).is_empty()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (front, back) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = back;
        front
    }

    fn token(&mut self) -> Result<&'a [u8], ChallengeError> {
        let length = self.rest.iter().take_while(|b| is_token(**b)).count();
        if length == 0 { Err(ChallengeError::Malformed) } else { Ok(self.take(length)) }
    }

    /// Only when it stands alone up to the next comma; otherwise it is the beginning of parameters.
    fn token68(&mut self) -> Option<String> {
        let body = self.rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(b)).count();
        let padding = self.rest.iter().skip(body).take_while(|b| **b == b'=').count();
        let length = body.checked_add(padding)?;
        let alone = matches!(self.rest.get(length..)?.iter().find(|b| !is_blank(**b)), None | Some(b','));
        (body > 0 && alone).then(|| ascii(self.take(length)))
    }

    fn value(&mut self) -> Result<Vec<u8>, ChallengeError> {
        self.skip(is_blank);
        if self.peek() != Some(b'"') {
            return self.token().map(<[u8]>::to_vec);
        }
        self.eat();
        let mut value = Vec::new();
        loop {
            match self.eat().ok_or(ChallengeError::Malformed)? {
                b'"' => return Ok(value),
                b'\\' => value.push(shown(self.eat().ok_or(ChallengeError::Malformed)?)?),
                b => value.push(shown(b)?),
            }
        }
    }
}

/// Control characters have no business in a challenge, escaped or not.
fn shown(b: u8) -> Result<u8, ChallengeError> {
    if b.is_ascii_control() && b != b'\t' { Err(ChallengeError::Malformed) } else { Ok(b) }
}

/// Of bytes that were found to be ASCII.
fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// RFC 9110 §5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Most challenges in one field.
pub const MAX_CHALLENGES: usize = 16;
/// Most parameters of one challenge.
const MAX_PARAMS: usize = 32;
