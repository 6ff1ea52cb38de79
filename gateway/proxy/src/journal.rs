//! Logouts on disk: who has signed out stays so when the gateway is killed and started again.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use sluice_gateway_access::{Logouts, Session};

use crate::sign_on::now;

/// The file is written anew, without what has expired, when it is longer; also the most that is read. Bytes.
const LONGEST: u64 = 8 * 1024 * 1024;

/// The logouts, and the file that they are kept in where there is one.
pub(crate) struct Journal {
    logouts: Mutex<Logouts>,
    file: Option<Mutex<Kept>>,
}

struct Kept {
    path: PathBuf,
    end: File,
    length: u64,
}

impl Journal {
    /// Reads what was kept at `path`; without one, logouts live as long as the process.
    pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self { logouts: Mutex::default(), file: None }) };
        let logouts =
            Logouts::from_text(&read(path).with_context(|| format!("cannot read {}", path.display()))?, now());
        let kept =
            Kept::new(path, &logouts.to_text(now())).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { logouts: Mutex::new(logouts), file: Some(Mutex::new(kept)) })
    }

    pub(crate) fn logouts(&self) -> MutexGuard<'_, Logouts> {
        self.logouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends `session`: here at once, and on disk when this returns.
    pub(crate) async fn end(self: &Arc<Self>, session: &Session) {
        self.logouts().end(session, now());
        let (journal, line) = (self.clone(), Logouts::line(session));
        let kept = tokio::task::spawn_blocking(move || journal.keep(&line)).await;
        if let Err(error) = kept.map_err(anyhow::Error::from).and_then(|kept| kept.map_err(anyhow::Error::from)) {
            tracing::warn!("a logout is not on disk, a restart would forget it: {error:#}");
        }
    }

    fn keep(&self, line: &str) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut kept = file.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.length.saturating_add(line.len() as u64) > LONGEST {
            // The line is among the logouts already.
            let all = self.logouts().to_text(now());
            *kept = Kept::new(&kept.path, &all)?;
            return Ok(());
        }
        kept.end.write_all(line.as_bytes())?;
        kept.length = kept.length.saturating_add(line.len() as u64);
        kept.end.sync_data()
    }
}

/// Bytes that are no text come out as lines that cannot be read, which is what they are.
fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(LONGEST).read_to_end(&mut bytes)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Kept {
    /// A file with just `text`, in the place of the one before once it is whole.
    fn new(path: &Path, text: &str) -> std::io::Result<Self> {
        let draft = path.with_extension("new");
        let mut end = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        end.write_all(text.as_bytes())?;
        end.sync_all()?;
        fs::rename(&draft, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), end, length: text.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_long_file_is_written_anew_and_loses_nothing_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logouts");
        let far = now().plus(3600).0;
        fs::write(&path, format!("AAAAAAAAAAAAAAAAAAAAAA {far}\nBBBBBBBBBBBBBBBBBBBBBA 1\n")).unwrap();
        let journal = Journal::open(Some(&path)).unwrap();
        let kept = format!("AAAAAAAAAAAAAAAAAAAAAA {far}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), kept, "what has expired is gone");
        journal.file.as_ref().unwrap().lock().unwrap().length = LONGEST;
        journal.keep("CCCCCCCCCCCCCCCCCCCCCA 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        journal.keep("more\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{kept}more\n"), "and it goes on from there");
    }
}
