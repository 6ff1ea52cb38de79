//! Secrets are named by file in a configuration, never written into it.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

/// Path of a file that holds a secret. Only its owner may write it and strangers may not read it (mode 0600, or
/// 0640 for a trusted group). `load` reads it once, so that a missing one is a refused configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretFile(PathBuf);

/// Why a secret file is refused.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    /// Missing, not permitted, not a file.
    #[error("cannot read the secret file {}: {cause}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others may read it, or others than the owner may write it.
    #[error("the secret file {} has mode {mode:04o}; nobody else may read it: chmod 0600", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Must be one line of text.
    #[error("the secret file {} is not one line of UTF-8 text; is it the right file?", path.display())]
    NoLine {
        /// Which file.
        path: PathBuf,
    },
    /// Longer than [`SecretFile::MAX`].
    #[error("the secret file {} is longer than {} bytes; is it the right file?", path.display(), SecretFile::MAX)]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
}

impl SecretFile {
    /// Longest secret, bytes.
    pub(crate) const MAX: u64 = 64 * 1024;
    /// How the schema tells such a path from others.
    pub(crate) const FORMAT: &'static str = "secret-file";
    const FORBIDDEN_MODE: u32 = 0o027;

    /// The secret file at `path`.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The content, wiped from memory when dropped.
    ///
    /// # Errors
    /// [`SecretError`] when the file cannot be read or is not kept secret.
    pub(crate) fn read(&self) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let unreadable = |cause| SecretError::Unreadable { path: self.0.clone(), cause };
        let file = File::open(&self.0).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & Self::FORBIDDEN_MODE != 0 {
            return Err(SecretError::Exposed { path: self.0.clone(), mode });
        }
        let mut content = Zeroizing::new(Vec::new());
        let length = file.take(Self::MAX.saturating_add(1)).read_to_end(&mut content).map_err(unreadable)?;
        if length as u64 > Self::MAX {
            return Err(SecretError::TooLong { path: self.0.clone() });
        }
        Ok(content)
    }
}

impl JsonSchema for SecretFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretFile".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": Self::FORMAT})
    }
}
