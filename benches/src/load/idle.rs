//! Many connections that do nothing, for measuring what each costs.

use std::{io::Read, net::SocketAddr, thread};

use anyhow::{Context, Result, anyhow};

use super::proved;

/// Connections being opened at a time.
const AT_ONCE: usize = 64;

/// Opens `count` connections, says `ready` on standard output, and holds them until standard input ends.
///
/// # Errors
/// One of them could not be opened.
#[expect(clippy::print_stdout, reason = "the starter waits for this line")]
pub fn hold(to: SocketAddr, count: usize) -> Result<()> {
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| {
            let share = count / AT_ONCE + usize::from(worker < count % AT_ONCE);
            thread::spawn(move || (0..share).map(|_| proved(to)).collect::<Result<Vec<_>, _>>())
        })
        .collect();
    let mut held = Vec::with_capacity(count);
    for worker in workers {
        let opened = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
        held.extend(opened.with_context(|| format!("opening {count} idle connections"))?);
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}
