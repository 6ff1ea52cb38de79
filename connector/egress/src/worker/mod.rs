//! What runs in processes of its own, because much foreign code reads what strangers write: PAC scripts and Kerberos.
//!
//! A worker does one job over one socket and ends. It has no files, no network, no environment and nothing of the
//! connector's memory; names and KDCs it asks the connector for. [`spawn`] has the process that starts workers,
//! [`frame`] what is said.

mod frame;
mod login;
mod pac;
mod parent;
mod spawn;

use std::{os::unix::net::UnixStream, time::Duration};

use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::alarm,
};

pub(crate) use frame::{Answer, Ask, Login, MAX_SCRIPT, Secret};
pub(crate) use parent::{Done, Help, Staff};
pub use spawn::{Lifeline, Spawner, serve_spawner};

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Evaluates a PAC script.
    Pac,
    /// Makes the token of a Kerberos login.
    Login,
}

impl Kind {
    /// By its name on the command line.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Pac, Self::Login].into_iter().find(|kind| kind.name() == name)
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pac => "pac",
            Self::Login => "login",
        }
    }
}

/// Starts workers.
pub trait Workers: std::fmt::Debug + Send + Sync {
    /// A socket to a new worker.
    ///
    /// # Errors
    /// When none can be started.
    fn start(&self, kind: Kind) -> std::io::Result<UnixStream>;
}

/// Does a worker's job; `confine` gives up what it does not need, before anything foreign is read.
///
/// # Errors
/// When it cannot be confined or the connector hung up. What is wrong with the job goes to the connector.
pub fn work(kind: Kind, socket: UnixStream, confine: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    match kind {
        Kind::Pac => pac::work(socket, confine),
        Kind::Login => login::work(socket, confine),
    }
}

/// Bounds on a worker process, for good. Beyond the wall clock's bound the kernel ends it by a signal.
///
/// # Errors
/// When the system refuses.
pub fn bound_worker() -> nix::Result<()> {
    let mebibyte = 1024 * 1024;
    setrlimit(Resource::RLIMIT_AS, MEMORY_MIB * mebibyte, MEMORY_MIB * mebibyte)?;
    setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0)?;
    alarm::set(WALL_SECONDS);
    Ok(())
}

/// Most workers at a time.
const MAX_WORKERS: usize = 8;
/// Address space of a worker, mebibytes. A started binary alone maps some hundred.
const MEMORY_MIB: u64 = 2048;
/// Processor time of a worker, seconds.
const CPU_SECONDS: u64 = 10;
/// Life of a worker, seconds.
const WALL_SECONDS: u32 = 60;
/// What a script may allocate, bytes.
const SCRIPT_MEMORY: usize = 64 * 1024 * 1024;
/// How deep a script may call, bytes of stack.
const SCRIPT_STACK: usize = 256 * 1024;
/// How long a script may run.
const SCRIPT_TIME: Duration = Duration::from_secs(5);
