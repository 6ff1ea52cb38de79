//! Private files: made 0600, replaced whole, durable before the call returns.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::KeystoreError;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeystoreError {
    let path = path.to_owned();
    move |source| KeystoreError::Io { path, source }
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), KeystoreError> {
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(dir) {
        Ok(()) => refuse_exposed(dir),
        Err(source) => Err(io(dir)(source)),
    }
}

pub(crate) fn exists(path: &Path) -> Result<bool, KeystoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io(path)(source)),
    }
}

pub(crate) fn refuse_exposed(path: &Path) -> Result<(), KeystoreError> {
    let mode = fs::metadata(path).map_err(io(path))?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeystoreError::Exposed(path.to_owned())) }
}

/// Reads a private file of at most `limit` bytes; a longer one is cut one byte past the limit, which no caller accepts.
pub(crate) fn read_private(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    refuse_exposed(path)?;
    let file = File::open(path).map_err(io(path))?;
    // Reserved at once: a growing vector would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(cap).read_to_end(&mut bytes).map_err(io(path))?;
    Ok(bytes)
}

pub(crate) fn create_new(path: &Path, bytes: &[u8]) -> Result<(), KeystoreError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(path))?;
    sync_parent(path)
}

pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeystoreError> {
    let mut draft: PathBuf = path.to_owned();
    draft.set_extension(format!("{}.new", std::process::id()));
    // A draft left by a killed process of the same number is worthless.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&draft)(error)),
        _ => {}
    }
    create_new(&draft, bytes)?;
    fs::rename(&draft, path).map_err(io(path))?;
    sync_parent(path)
}

/// Removes the file, durably; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), KeystoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io(path)(source)),
        Ok(()) => sync_parent(path),
    }
}

fn sync_parent(path: &Path) -> Result<(), KeystoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io(parent))
}
