//! The one file of an agent: the number of the newest allow-list.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use sluice_connector_wire::ListPosition;

/// Largest file that is read.
const MAX_BYTES: u64 = 4096;

pub(crate) struct PositionFile {
    dir: PathBuf,
}

impl PositionFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("allow-list.json")
    }

    /// `None` before the first list.
    pub(crate) fn read(&self) -> anyhow::Result<Option<ListPosition>> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
        ensure!(text.len() as u64 <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
        let position = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; join this connector again", path.display()))?;
        Ok(Some(position))
    }

    /// Whole or not at all, and on disk when it returns.
    pub(crate) fn write(&self, position: &ListPosition) -> anyhow::Result<()> {
        let new = self.dir.join("allow-list.json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .with_context(|| format!("creating {}", new.display()))?;
        file.write_all(&serde_json::to_vec(position)?).context("writing the position")?;
        file.sync_all().context("syncing the position")?;
        fs::rename(&new, self.path()).context("renaming the position")?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).context("syncing the state directory")
    }
}
