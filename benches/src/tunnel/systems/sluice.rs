//! Ours: the real libraries of both ends in `bench-gate` and `bench-agent`, which have one door only.

use anyhow::Result;

use super::{Ends, MOST_STREAMS};
use crate::{house::House, tunnel::world::GATE_FOR_AGENTS};

pub(super) fn start(ends: &mut Ends<'_>, transport: &str) -> Result<()> {
    let house = ends.folder.join("house");
    House::make(&house)?;
    let place = format!("{GATE_FOR_AGENTS}:{}", ends.ports.control);
    let streams = MOST_STREAMS.to_string();
    let targets = ends.targets();
    ends.near(&ends.world.program("bench-gate"), |command| {
        command.arg("--house").arg(&house).args(["--listen", &place, "--streams", &streams]);
        command.args(["--transport", transport]);
        // On a line that tells urgent from patient, a copy and a desktop go by their own connections; else by one.
        let pairs = if ends.world.by_priority { ["bulk", "interactive"] } else { ["standard"; 2] };
        for ((port, target), pair) in targets.iter().zip(pairs) {
            command.args(["--forward", &format!("tcp:0.0.0.0:{port}=tcp:{target}@{pair}")]);
        }
    })?;
    ends.far(&ends.world.program("bench-agent"), |command| {
        command.arg("--house").arg(&house).args(["--gateway", &place]);
        for (_, target) in &targets {
            command.args(["--allow", &format!("tcp:{target}")]);
        }
    })
}
