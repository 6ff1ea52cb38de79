//! The state directory: files of mode 0600, replaced whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Longest file that is read back, bytes: a snapshot of a large site's state.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A node's state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Opens it, making it (0700) when missing.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the state directory {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// One that is there already, or is not: nothing is made.
    pub(crate) fn existing(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The file `name`, or `None` when there is none. A damaged one is an error, not nothing: a node must not
    /// silently forget who it is.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.0.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut text = Zeroizing::new(Vec::new());
        let length = file.take(MAX_FILE).read_to_end(&mut text)?;
        if length as u64 == MAX_FILE {
            bail!("{} is too long to be ours", path.display());
        }
        let value = serde_json::from_slice(&text);
        value.map(Some).with_context(|| format!("{} is damaged; restore it from a copy, or remove it", path.display()))
    }

    /// Replaces the file `name`: after a crash either the old or the new content is there.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec(value)?);
        let path = self.0.join(name);
        self.replace(name, &path, &text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes the file `name` if it is there.
    pub(crate) fn remove(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {name}"))
            }
            _ => Ok(()),
        }
    }

    fn replace(&self, name: &str, path: &Path, text: &[u8]) -> std::io::Result<()> {
        let draft = self.0.join(format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.0)?.sync_all()
    }
}
