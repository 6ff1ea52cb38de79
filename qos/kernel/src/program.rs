//! Running `nft` and `tc`: script on standard input, bounded time, an empty environment.

use std::{
    io::{Read, Write},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// A program that has not finished by then is stopped and counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a program's complaint is kept.
const COMPLAINT_MAX: u64 = 4 * 1024;

/// Where Debian keeps them; nothing else is searched.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `program` with `script` on its standard input.
pub(crate) fn run(program: &str, args: &[&str], script: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}; is its package installed?"))?;
    let input = child.stdin.take();
    let script = script.to_owned();
    // Written from a thread: a program that stops reading must not stop us.
    let writer = thread::spawn(move || input.map_or(Ok(()), |mut input| input.write_all(script.as_bytes())));
    let complaint = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        if let Some(complaint) = complaint {
            // What cannot be read is not shown; the exit status decides.
            let _read = complaint.take(COMPLAINT_MAX).read_to_string(&mut text);
        }
        text
    });
    let status = wait(&mut child).with_context(|| format!("{program} did not finish"))?;
    let written = writer.join().is_ok_and(|written| written.is_ok());
    let complaint = reader.join().unwrap_or_default();
    if !status.success() || !written {
        bail!("{program} {}: {}", args.join(" "), complaint.trim());
    }
    Ok(())
}

fn wait(child: &mut std::process::Child) -> anyhow::Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("stopped after {} s", PATIENCE.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
