//! A Kerberos keytab (MIT format 0x0502): the long-term keys of an account, instead of its password.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// The keys of one principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keytab(Vec<KeytabKey>);

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeytabKey {
    /// `name@REALM`.
    pub principal: String,
    /// Key version number.
    pub version: u32,
    /// Encryption type (RFC 3961 registry): 18 is aes256-cts-hmac-sha1-96, 17 aes128-cts-hmac-sha1-96.
    pub kind: u16,
    /// The key.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for KeytabKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, version, kind, .. } = self;
        f.debug_struct("KeytabKey").field("principal", principal).field("version", version).field("kind", kind).finish()
    }
}

/// Why a keytab cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeytabError {
    /// Not in the format.
    #[error("not a keytab in MIT's format 2 (make one with ktutil, ktpass, samba-tool or kadmin)")]
    Format,
    /// Too many entries.
    #[error("the keytab holds more than {MAX_KEYS} keys")]
    TooMany,
    /// No AES key of that name.
    #[error("the keytab holds no AES key for {0}; it holds keys for: {1}")]
    NoKey(String, String),
}

impl Keytab {
    /// Reads a keytab.
    ///
    /// # Errors
    /// [`KeytabError`].
    pub fn read(bytes: &[u8]) -> Result<Self, KeytabError> {
        let mut reader = Reader(bytes.strip_prefix(&[5, 2]).ok_or(KeytabError::Format)?);
        let mut keys = Vec::new();
        while !reader.0.is_empty() {
            let size = i32::from_be_bytes(reader.array().ok_or(KeytabError::Format)?);
            let length = usize::try_from(size.unsigned_abs()).map_err(|_| KeytabError::Format)?;
            // A hole where a key was removed has a negative size; size 0 ends the file (MIT reserves space so).
            if size == 0 {
                break;
            }
            let entry = reader.take(length).ok_or(KeytabError::Format)?;
            if size > 0 {
                if keys.len() >= MAX_KEYS {
                    return Err(KeytabError::TooMany);
                }
                keys.push(entry_of(Reader(entry)).ok_or(KeytabError::Format)?);
            }
        }
        Ok(Self(keys))
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[KeytabKey] {
        &self.0
    }

    /// The newest and strongest AES key of `principal` (`name@REALM`).
    ///
    /// # Errors
    /// [`KeytabError::NoKey`], naming what there is instead.
    pub fn key_of(&self, principal: &str) -> Result<&KeytabKey, KeytabError> {
        let named = self.0.iter().filter(|key| key.principal == principal && matches!(key.kind, AES128 | AES256));
        named.max_by_key(|key| (key.version, key.kind)).ok_or_else(|| {
            let mut names: Vec<&str> = self.0.iter().map(|key| key.principal.as_str()).collect();
            names.dedup();
            names.truncate(8);
            KeytabError::NoKey(principal.to_owned(), names.join(", "))
        })
    }
}

fn entry_of(mut entry: Reader<'_>) -> Option<KeytabKey> {
    let components = entry.short()?;
    let realm = entry.text()?;
    let names = (0..components).map(|_| entry.text()).collect::<Option<Vec<_>>>()?;
    // Name type and time of writing say nothing we need.
    entry.take(8)?;
    let [short_version] = entry.array()?;
    let kind = entry.short()?;
    let length = entry.short()?;
    let key = Zeroizing::new(entry.take(usize::from(length))?.to_vec());
    // A longer version number may follow; 0 means that none does.
    let long_version = entry.array().map(u32::from_be_bytes).filter(|version| *version != 0);
    let version = long_version.unwrap_or_else(|| u32::from(short_version));
    (!names.is_empty()).then(|| KeytabKey { principal: format!("{}@{realm}", names.join("/")), version, kind, key })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, back) = self.0.split_at_checked(length)?;
        self.0 = back;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.short()?;
        let text = std::str::from_utf8(self.take(usize::from(length))?).ok()?;
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    }
}

/// aes128-cts-hmac-sha1-96 (RFC 3962).
const AES128: u16 = 17;
/// aes256-cts-hmac-sha1-96 (RFC 3962).
const AES256: u16 = 18;
/// Most keys in one file.
const MAX_KEYS: usize = 256;
