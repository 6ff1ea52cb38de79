//! PKCS#11 modules: each is loaded and initialised once in a process (PKCS#11 2.40 §5.4), and stays.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
};

static LOADED: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());

/// The module in this file.
///
/// # Errors
/// It is no PKCS#11 module, or does not start.
pub(super) fn load(path: &Path) -> anyhow::Result<Pkcs11> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = loaded.iter().find(|(known, _)| known == path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).with_context(|| format!("cannot load the module {}", path.display()))?;
    // Threads that it started now could not be confined any more.
    let flags = CInitializeFlags::OS_LOCKING_OK | CInitializeFlags::LIBRARY_CANT_CREATE_OS_THREADS;
    match module.initialize(CInitializeArgs::new(flags)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(error).with_context(|| format!("the module {} does not start", path.display())),
    }
    loaded.push((path.to_owned(), module.clone()));
    Ok(module)
}
