//! Control's keystore: named secrets sealed under one key-encryption key that no backup contains.
//!
//! Layout of the directory (0700): `kek` (32 random bytes, 0600) and `<name>.sealed` for every secret, where the
//! `/` of a name is written `.`. A sealed file is `slk1`, a 96-bit nonce, then AES-256-GCM ciphertext and tag;
//! the additional data is the name, so a file renamed to another secret's name does not open.

mod files;

use std::path::{Path, PathBuf};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, rand,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// Length of the key-encryption key and of every derived key.
const KEY_LEN: usize = 32;
/// Longest secret; an RSA-4096 private key needs 2.4 KiB.
const MAX_SECRET: usize = 64 * 1024;
/// Longest name.
const MAX_NAME: usize = 200;
const MAGIC: &[u8; 4] = b"slk1";
/// Sealed when the keystore is made; tells a wrong key from a damaged secret.
const CANARY: &str = "keystore/canary";
const CANARY_TEXT: &[u8] = b"sluice keystore";

/// Why the keystore did not do what was asked. No variant carries secret bytes.
#[derive(Debug, Error)]
pub enum KeystoreError {
    /// Not `a-z`, `0-9`, `-` in parts separated by `/`.
    #[error("a secret's name is parts of a-z, 0-9 and '-' separated by '/', at most {MAX_NAME} characters")]
    BadName,
    /// No such secret.
    #[error("the keystore holds no secret named \"{0}\"")]
    Missing(String),
    /// There is one already.
    #[error("{0} already holds a keystore; it is not overwritten")]
    Exists(PathBuf),
    /// No keystore there.
    #[error("{0} holds no keystore; run \"sluice control init\" first")]
    NotFound(PathBuf),
    /// Others could read it.
    #[error("{0} can be read by others; take the rights of group and others away (chmod go=)")]
    Exposed(PathBuf),
    /// The KEK is not 32 bytes, or is not the one this keystore was made with.
    #[error("the key file is not the one this keystore was sealed with; put the right \"kek\" back")]
    WrongKey,
    /// Altered, truncated, or another secret's file.
    #[error("the sealed file of \"{0}\" is damaged or belongs to another name; restore it from where it was kept")]
    Damaged(String),
    /// Too long.
    #[error("a secret is 1 to {MAX_SECRET} bytes long")]
    Length,
    /// The operating system gave no random bytes or the cipher failed.
    #[error("the cryptographic library failed")]
    Crypto,
    /// File system.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}

/// An open keystore. Reads its files afresh each time, so several processes may share the directory.
pub struct Keystore {
    dir: PathBuf,
    kek: LessSafeKey,
}

impl std::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keystore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Keystore {
    /// Makes a keystore with a fresh KEK in `dir`, which is created when absent.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`] when there is one; otherwise file system errors.
    pub fn create(dir: &Path) -> Result<Self, KeystoreError> {
        files::make_dir(dir)?;
        let path = dir.join("kek");
        if files::exists(&path)? {
            return Err(KeystoreError::Exists(dir.to_owned()));
        }
        let mut kek = Zeroizing::new([0; KEY_LEN]);
        rand::fill(kek.as_mut()).map_err(|_| KeystoreError::Crypto)?;
        files::create_new(&path, kek.as_ref()).map_err(|error| match error {
            KeystoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                KeystoreError::Exists(dir.to_owned())
            }
            other => other,
        })?;
        let keystore = Self { dir: dir.to_owned(), kek: key(kek.as_ref())? };
        keystore.put(CANARY, CANARY_TEXT)?;
        Ok(keystore)
    }

    /// Opens the keystore in `dir`.
    ///
    /// # Errors
    /// [`KeystoreError::NotFound`], [`KeystoreError::Exposed`], [`KeystoreError::WrongKey`], or a file system error.
    pub fn open(dir: &Path) -> Result<Self, KeystoreError> {
        let path = dir.join("kek");
        if !files::exists(&path)? {
            return Err(KeystoreError::NotFound(dir.to_owned()));
        }
        files::refuse_exposed(dir)?;
        let kek = files::read_private(&path, KEY_LEN)?;
        if kek.len() != KEY_LEN {
            return Err(KeystoreError::WrongKey);
        }
        let keystore = Self { dir: dir.to_owned(), kek: key(&kek)? };
        match keystore.secret(CANARY) {
            Ok(text) if text.as_slice() == CANARY_TEXT => Ok(keystore),
            Ok(_) | Err(KeystoreError::Damaged(_) | KeystoreError::Missing(_)) => Err(KeystoreError::WrongKey),
            Err(other) => Err(other),
        }
    }

    /// The secret called `name`.
    ///
    /// # Errors
    /// [`KeystoreError::Missing`], [`KeystoreError::Damaged`], or a file system error.
    pub fn secret(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let path = self.path(name)?;
        if !files::exists(&path)? {
            return Err(KeystoreError::Missing(name.to_owned()));
        }
        let sealed = files::read_private(&path, MAX_SECRET + 64)?;
        self.unseal(name, &sealed).ok_or_else(|| KeystoreError::Damaged(name.to_owned()))
    }

    /// Whether there is a secret called `name`.
    ///
    /// # Errors
    /// [`KeystoreError::BadName`] or a file system error.
    pub fn contains(&self, name: &str) -> Result<bool, KeystoreError> {
        files::exists(&self.path(name)?)
    }

    /// Stores `secret` as `name`, durably, whole or not at all; replaces an earlier one.
    ///
    /// # Errors
    /// [`KeystoreError::BadName`], [`KeystoreError::Length`], or a file system error (the earlier secret then stays).
    pub fn put(&self, name: &str, secret: &[u8]) -> Result<(), KeystoreError> {
        let path = self.path(name)?;
        if secret.is_empty() || secret.len() > MAX_SECRET {
            return Err(KeystoreError::Length);
        }
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| KeystoreError::Crypto)?;
        let mut body = Zeroizing::new(secret.to_vec());
        let tag = self
            .kek
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut body)
            .map_err(|_| KeystoreError::Crypto)?;
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&nonce);
        file.extend_from_slice(&body);
        file.extend_from_slice(tag.as_ref());
        files::replace(&path, &file)
    }

    /// Forgets the secret called `name`, durably; one that is not there is fine. (Copies of the sealed file that were
    /// made before still open.)
    ///
    /// # Errors
    /// [`KeystoreError::BadName`] or a file system error.
    pub fn remove(&self, name: &str) -> Result<(), KeystoreError> {
        files::remove(&self.path(name)?)
    }

    /// A 256-bit key for one purpose: HKDF-SHA256 (RFC 5869) of the secret `name` with `info`.
    ///
    /// # Errors
    /// As [`Self::secret`].
    pub fn derive(&self, name: &str, info: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeystoreError> {
        let secret = self.secret(name)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"sluice-keystore-v1")
            .extract(&secret)
            .expand(&[info.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut()))
            .map_err(|_| KeystoreError::Crypto)?;
        Ok(key)
    }

    fn path(&self, name: &str) -> Result<PathBuf, KeystoreError> {
        let part_ok = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if name.len() > MAX_NAME || !name.split('/').all(part_ok) {
            return Err(KeystoreError::BadName);
        }
        Ok(self.dir.join(format!("{}.sealed", name.replace('/', "."))))
    }

    fn unseal(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.strip_prefix(MAGIC)?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self.kek.open_in_place(nonce, Aad::from(name), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

fn key(bytes: &[u8]) -> Result<LessSafeKey, KeystoreError> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| KeystoreError::WrongKey)
}
