//! Starting the wallet's process and handing it its sockets.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use sluice_control_wallet::{Grant, Owner};

use crate::Client;

/// How long the process may take to end once its sockets are closed.
const END: Duration = Duration::from_secs(5);
/// Sockets handed over: one for each of [`Grant::ALL`].
const SOCKETS: usize = Grant::ALL.len();

/// The operating system's account under which the wallet runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One client for each grant, and the process behind them.
#[derive(Debug)]
pub struct WalletClients {
    /// For syncs.
    pub sync: Client,
    /// For actions.
    pub actions: Client,
    /// For administration.
    pub admin: Client,
    child: Mutex<Child>,
}

/// Starts `exe control wallet --dir DIR` with one socket for each grant, and waits until it answers.
///
/// The sockets travel over the child's standard input, so that no other child can inherit one by accident. The
/// child's environment is empty. Dropping all three clients ends it.
///
/// # Errors
/// When it cannot be started, or ends at once (its own log says why).
pub fn spawn(exe: &Path, dir: &Path, user: Option<Account>) -> anyhow::Result<WalletClients> {
    prepare(dir, user)?;
    let (ours, theirs) = UnixStream::pair().context("socket pair")?;
    let mut command = Command::new(exe);
    command.arg0("sluice").args(["control", "wallet", "--dir"]).arg(dir);
    command.env_clear().current_dir("/").stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
    if let Some(Account { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    let child = command.spawn().with_context(|| format!("start {}", exe.display()))?;
    drop(command);
    let (sync, wallet_sync) = UnixStream::pair()?;
    let (actions, wallet_actions) = UnixStream::pair()?;
    let (admin, wallet_admin) = UnixStream::pair()?;
    hand_over(&ours, [wallet_sync.as_fd(), wallet_actions.as_fd(), wallet_admin.as_fd()])?;
    drop((wallet_sync, wallet_actions, wallet_admin));
    let clients = WalletClients {
        sync: Client::new(sync)?,
        actions: Client::new(actions)?,
        admin: Client::new(admin)?,
        child: Mutex::new(child),
    };
    let nobody = ("ready".parse()?, "ready".parse()?);
    clients
        .admin
        .exists(&nobody.0, &nobody.1, &Owner::Service)
        .context("the wallet did not start; its log says why")?;
    Ok(clients)
}

impl WalletClients {
    /// The wallet's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Why the wallet is of no further use, once it is: its process has ended, or an exchange with it broke off.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        match self.child().try_wait() {
            Ok(Some(status)) => return Some(format!("its process ended with {status}")),
            Err(error) => return Some(format!("its process cannot be watched: {error}")),
            Ok(None) => {}
        }
        let broken = [&self.sync, &self.actions, &self.admin].into_iter().any(Client::is_broken);
        broken.then(|| "it did not answer".to_owned())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the sockets and waits until the process has ended.
    ///
    /// # Errors
    /// When it does not end within 5 s (it is killed then), or ended badly.
    pub fn end(self) -> anyhow::Result<()> {
        let Self { sync, actions, admin, child } = self;
        let mut child = child.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop((sync, actions, admin));
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "the wallet ended with {status}");
                return Ok(());
            }
            if begun.elapsed() > END {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("the wallet did not end by itself");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The sockets that [`spawn`] handed to this process over its standard input.
///
/// # Errors
/// When this process was not started by [`spawn`].
pub fn inherited() -> anyhow::Result<Vec<(OwnedFd, Grant)>> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let by_hand = "the wallet is started by control, not by hand";
    recvmsg(&stdin, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).context(by_hand)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    ensure!(fds.len() == SOCKETS, by_hand);
    Ok(fds.into_iter().zip(Grant::ALL).collect())
}

fn hand_over(to: &UnixStream, fds: [BorrowedFd<'_>; SOCKETS]) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)), "no room for the sockets");
    sendmsg(to, &[IoSlice::new(b"w")], &mut control, SendFlags::NOSIGNAL).context("hand the sockets to the wallet")?;
    Ok(())
}

/// Makes the wallet's folder and gives it to its account, which cannot make it itself.
fn prepare(dir: &Path, user: Option<Account>) -> anyhow::Result<()> {
    let context = || dir.display().to_string();
    if !dir.exists() {
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).with_context(context)?;
    }
    if let Some(Account { uid, gid }) = user {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).with_context(context)?;
    }
    Ok(())
}
