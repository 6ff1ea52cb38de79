//! Configuration files: one TOML file per role, read whole or refused whole.

pub(crate) mod connector;
pub(crate) mod control;
pub(crate) mod edge;
pub(crate) mod gateway;
mod key;
mod node;
#[cfg(test)]
mod reference;
mod secret;
mod shape;
pub(crate) mod status;
pub(crate) mod web_proxy;

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

pub(crate) use self::{node::NodeSection, secret::SecretFile};

/// Arguments every role that runs as a service has.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RoleArgs {
    /// Configuration file (TOML); docs/configuration.md lists every key
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Validate the configuration, print what is in effect, and stop
    #[arg(long)]
    pub(crate) check: bool,
}

/// Why a configuration is refused, in one text with its cause. Nothing that runs has changed. The command ends with [`Self::EXIT`].
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file itself.
    #[error("cannot read the configuration {}: {cause}; name an existing, readable file with --config", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// More than [`MAX_FILE`] bytes.
    #[error("the configuration {} is longer than {MAX_FILE} bytes; is it the right file?", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// A key nobody reads.
    #[error("{}: unknown key `{key}`; the nearest known key is `{nearest}`", path.display())]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// Dotted path of the known key most like it.
        nearest: String,
    },
    /// A file named by the configuration that must be secret is not readable or not secret.
    #[error("{}: `{key}`: {cause}", path.display())]
    Secret {
        /// Which configuration file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What is wrong with it.
        cause: secret::SecretError,
    },
    /// Not TOML, a wrong type, a missing key, or a value the role cannot use.
    #[error("{}: {}", path.display(), message.trim_end())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, column and what was expected there, or what the role says about the value.
        message: String,
    },
}

impl ConfigError {
    /// Exit status of a role whose configuration is refused (`EX_USAGE`).
    pub(crate) const EXIT: u8 = 64;

    /// A refusal by the role's own rules, after the file had the right shape.
    pub(crate) fn invalid(path: &Path, message: impl std::fmt::Display) -> Self {
        Self::Invalid { path: path.to_owned(), message: message.to_string() }
    }
}

/// Reads and checks a role's configuration.
///
/// # Errors
/// [`ConfigError`]; it names the file, the key and what to do.
pub(crate) fn load<T: DeserializeOwned + JsonSchema>(path: &Path) -> Result<T, ConfigError> {
    let text = read_bounded(path)?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| ConfigError::invalid(path, error))?;
    let schema = schemars::schema_for!(T).to_value();
    let findings = shape::inspect(&schema, &table);
    if let Some(unknown) = findings.unknown {
        return Err(ConfigError::UnknownKey { path: path.to_owned(), key: unknown.key, nearest: unknown.nearest });
    }
    let config = toml::from_str(&text).map_err(|error| ConfigError::invalid(path, error))?;
    for (key, file) in findings.secret_files {
        SecretFile::new(file.into()).read().map_err(|cause| ConfigError::Secret {
            path: path.to_owned(),
            key,
            cause,
        })?;
    }
    Ok(config)
}

/// What `--check` prints: every key with the value in effect, as TOML. Configurations hold no secrets, only the
/// paths of files that do ([`SecretFile`]), and those contents are never printed.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn print_effective<T: Serialize>(config: &T) -> anyhow::Result<()> {
    let text = toml::to_string_pretty(config)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let length = file.take(MAX_FILE.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if length as u64 > MAX_FILE {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

/// Longest configuration file that is read, bytes.
const MAX_FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
