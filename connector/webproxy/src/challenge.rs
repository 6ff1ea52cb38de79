//! `Proxy-Authenticate` (RFC 9110 §11.3, §11.6.1): several challenges in one field, or one in each of several.

use thiserror::Error;

/// What a proxy offers to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme in lower case.
    pub scheme: String,
    /// What follows a scheme that has no parameters (NTLM and Negotiate carry their tokens so).
    pub token68: Option<String>,
    /// Parameters, names in lower case, each once, values without their quotes.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// The value of the parameter `name`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
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
pub fn challenges(value: &str) -> Result<Vec<Challenge>, ChallengeError> {
    let mut reader = Reader { rest: value };
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        reader.skip(|b| matches!(b, b' ' | b'\t' | b','));
        if reader.rest.is_empty() {
            return Ok(found);
        }
        let word = reader.token()?;
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
            let mut challenge = Challenge { scheme: word.to_ascii_lowercase(), token68, params: Vec::new() };
            if challenge.token68.is_none() && spaced && !matches!(reader.peek(), None | Some(b',')) {
                let name = reader.token()?;
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
    fn add(&mut self, name: &str, value: String) -> Result<(), ChallengeError> {
        let name = name.to_ascii_lowercase();
        if self.param(&name).is_some() {
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
pub(crate) fn info(value: &str, name: &str) -> Option<String> {
    let as_challenge = format!("x {value}");
    challenges(&as_challenge).ok()?.first()?.param(name).map(str::to_owned)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    fn eat(&mut self) -> Option<u8> {
        let first = self.peek()?;
        // Everything compared with is ASCII, so a longer character is never stepped into.
        self.rest = self.rest.get(1..)?;
        Some(first)
    }

    /// Whether anything was skipped.
    fn skip(&mut self, unwanted: fn(u8) -> bool) -> bool {
        let length = self.rest.bytes().take_while(|b| unwanted(*b)).count();
        self.rest = self.rest.get(length..).unwrap_or_default();
        length > 0
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (front, back) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = back;
        front
    }

    fn token(&mut self) -> Result<&'a str, ChallengeError> {
        let length = self.rest.bytes().take_while(|b| is_token(*b)).count();
        if length == 0 { Err(ChallengeError::Malformed) } else { Ok(self.take(length)) }
    }

    /// Only when it stands alone up to the next comma; otherwise it is the beginning of parameters.
    fn token68(&mut self) -> Option<String> {
        let body = self.rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(b)).count();
        let padding = self.rest.bytes().skip(body).take_while(|b| *b == b'=').count();
        let length = body.checked_add(padding)?;
        let after = self.rest.get(length..)?.trim_start_matches([' ', '\t']);
        let alone = after.is_empty() || after.starts_with(',');
        (body > 0 && alone).then(|| self.take(length).to_owned())
    }

    fn value(&mut self) -> Result<String, ChallengeError> {
        self.skip(is_blank);
        if self.peek() != Some(b'"') {
            return self.token().map(str::to_owned);
        }
        self.eat();
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at..).and_then(|rest| rest.get(1..)).unwrap_or_default();
                    return Ok(value);
                }
                '\\' => value.push(shown(chars.next().ok_or(ChallengeError::Malformed)?.1)?),
                c => value.push(shown(c)?),
            }
        }
        Err(ChallengeError::Malformed)
    }
}

/// Control characters have no business in a challenge, escaped or not.
fn shown(c: char) -> Result<char, ChallengeError> {
    if c.is_control() && c != '\t' { Err(ChallengeError::Malformed) } else { Ok(c) }
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
