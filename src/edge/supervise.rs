//! The parent: starts the wire side, then is the kernel writer until either of them ends. Whatever the end, nobody
//! stays admitted.

use std::{
    net::Shutdown,
    os::unix::{net::UnixStream, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, Signal};
use sluice_qos_kernel::KernelWriter;
use sluice_qos_plan::Links;

use crate::confine::{self, Profile};

/// How long the wire side may take to end once its socket is closed. It dies with this process in any case.
const FAREWELL: Duration = Duration::from_secs(5);
/// Where the programs are that the kernel writer runs.
const PROGRAMS: [&str; 3] = ["/usr/sbin/nft", "/usr/bin/nft", "/sbin/nft"];

pub(super) fn run(links: &Links) -> anyhow::Result<ExitCode> {
    // Blocked here and waited for by a thread: no handler, nothing to get wrong. Children start with nothing blocked.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().context("cannot block signals")?;
    let writer = KernelWriter::start(links)?;
    let (mine, theirs) = UnixStream::pair().context("no socket pair")?;
    let mut wire_side = start_wire_side(theirs)?;
    confine::apply(&Profile {
        role: "edge kernel writer",
        run: PROGRAMS.iter().map(PathBuf::from).filter(|path| path.exists()).collect(),
        capabilities: vec![caps::Capability::CAP_NET_ADMIN],
        netlink: true,
        ..Profile::default()
    })?;
    let stopping = Arc::new(AtomicBool::new(false));
    stop_reading_on(signals, mine.try_clone()?, stopping.clone())?;
    let handle = mine.try_clone()?;
    let served = writer.serve(mine);
    if let Err(error) = handle.shutdown(Shutdown::Both) {
        tracing::debug!(%error, "the wire side's socket");
    }
    let ended = farewell(&mut wire_side)?;
    served?;
    if !stopping.load(Ordering::SeqCst) {
        bail!(
            "the wire side ended by itself ({}); everybody is staged",
            ended.map_or_else(|| "?".into(), |s| s.to_string())
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// This program again, with the same arguments. Its standard input is the socket.
fn start_wire_side(socket: UnixStream) -> anyhow::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("sluice")
        .args(std::env::args_os().skip(1))
        .arg("--wire-side")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)))
        .spawn()
        .context("cannot start the wire side")
}

/// On the first of `signals` the writer reads no further message, answers the one at hand, and ends.
fn stop_reading_on(signals: SigSet, socket: UnixStream, stopping: Arc<AtomicBool>) -> anyhow::Result<()> {
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            tracing::info!(%signal, "told to stop: staging everybody");
            stopping.store(true, Ordering::SeqCst);
            if let Err(error) = socket.shutdown(Shutdown::Read) {
                tracing::debug!(%error, "the wire side's socket");
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).context("no thread for signals")?;
    Ok(())
}

fn farewell(wire_side: &mut Child) -> anyhow::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + FAREWELL;
    while Instant::now() < deadline {
        if let Some(status) = wire_side.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    tracing::warn!("the wire side does not end; it is killed with this process");
    Ok(None)
}
