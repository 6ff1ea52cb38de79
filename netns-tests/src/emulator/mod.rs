//! A line that is slow, lossy or narrow on purpose: forwards frames between two devices of one namespace.
//!
//! It forwards whole Ethernet frames, so IPv4 and IPv6 alike, one by one: the devices at both far ends must not hand
//! it segments to be cut later or packets without a checksum ([`single_frames`]). What becomes of a frame is decided
//! by [`Pipe`], which knows neither sockets nor clock; the same seed gives the same losses.

mod pipe;
mod pump;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};

pub use pipe::{Fate, Pipe, Shape};
pub use pump::Counters;

use crate::{process::succeed, topology::Ns};
use pump::{Pump, open};

/// A running line. Dropping it stops the forwarding: the line is cut.
#[derive(Debug)]
pub struct Emulator {
    ways: [Way; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One direction's shape, to be changed while it runs, and what happened to its frames.
#[derive(Debug)]
struct Way {
    shape: Arc<Mutex<Shape>>,
    counters: Arc<Counters>,
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first device to the second.
    Forth,
    /// From the second to the first.
    Back,
}

impl Emulator {
    /// Connects devices `a` and `b` of `ns`, which hold no addresses of their own. Frames from `a` to `b` get the
    /// shape `forth`, the others `back`.
    ///
    /// # Errors
    /// A device is missing, or not root.
    pub fn start(ns: &Ns, (a, b): (&str, &str), forth: Shape, back: Shape) -> Result<Self> {
        // Otherwise the devices of the line would themselves speak (neighbour and router discovery).
        ns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        let names = (a.to_owned(), b.to_owned());
        let (a, b) = ns.enter(move || anyhow::Ok((open(&names.0)?, open(&names.1)?)))??;
        let (a, b) = (Arc::new(a), Arc::new(b));
        let stop = Arc::new(AtomicBool::new(false));
        let ways = [forth, back].map(|shape| Way { shape: Arc::new(Mutex::new(shape)), counters: Arc::default() });
        let mut threads = Vec::new();
        for (way, (from, to)) in ways.iter().zip([(&a, &b), (&b, &a)]) {
            let pump = Pump::new(from.clone(), to.clone(), way.shape.clone(), way.counters.clone(), stop.clone())?;
            let thread = std::thread::Builder::new().name("emulator".to_owned()).spawn(move || pump.run());
            threads.push(thread.context("cannot start the emulator's thread")?);
        }
        Ok(Self { ways, stop, threads })
    }

    /// Gives one direction another shape. Frames that are already under way keep theirs and their order.
    pub fn reshape(&self, direction: Direction, shape: Shape) {
        *pump::held(&self.way(direction).shape) = shape;
    }

    /// What has happened to the frames of one direction.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> &Counters {
        &self.way(direction).counters
    }

    const fn way(&self, direction: Direction) -> &Way {
        let [forth, back] = &self.ways;
        match direction {
            Direction::Forth => forth,
            Direction::Back => back,
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panicked pump has said so on the terminal.
            let _ended = thread.join();
        }
    }
}

/// Makes a device hand over what it will really send: single frames with checksums, nothing left to offloads.
///
/// # Errors
/// `ethtool` is missing or refuses.
pub fn single_frames(ns: &Ns, device: &str) -> Result<()> {
    let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    succeed(ns.command("ethtool").args(["-K", device]).args(off))
}
