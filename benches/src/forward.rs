//! What an end listens on, where that goes and, if told, by which of the tunnel's connections:
//! `tcp:0.0.0.0:7001=tcp:10.0.0.2:80@bulk`.

use std::{net::SocketAddr, str::FromStr};

use sluice_connector_wire::{ClassPair, Protocol, Target};
use thiserror::Error;

/// One listener of the gateway's side and its target behind the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where users come; TCP or UDP as the target.
    pub listen: SocketAddr,
    /// Where the agent goes.
    pub target: Target,
    /// The pair whose connection its streams take; standard unless told.
    pub pair: ClassPair,
}

/// Not of the shape above.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a forward is tcp:ADDRESS:PORT=tcp:HOST:PORT or the same with udp on both sides, then @PAIR if not standard")]
pub struct BadForward;

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Self, BadForward> {
        let (listen, target) = text.split_once('=').ok_or(BadForward)?;
        let (protocol, listen) = listen.split_once(':').ok_or(BadForward)?;
        let listen = listen.parse().map_err(|_| BadForward)?;
        let (target, pair) = match target.split_once('@') {
            Some((target, pair)) => (target, pair.parse().map_err(|_| BadForward)?),
            None => (target, ClassPair::default()),
        };
        let target: Target = target.parse().map_err(|_| BadForward)?;
        let same = match target.protocol {
            Protocol::Tcp => protocol == "tcp",
            Protocol::Udp => protocol == "udp",
        };
        if same { Ok(Self { listen, target, pair }) } else { Err(BadForward) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{BadForward, ClassPair, Forward};

    #[test]
    fn both_sides_speak_the_same_protocol() {
        let forward: Forward = "tcp:[::]:7001=tcp:10.0.0.2:80".parse().unwrap();
        assert_eq!(
            (forward.listen.to_string(), forward.target.to_string()),
            ("[::]:7001".into(), "tcp:10.0.0.2:80".into())
        );
        assert_eq!(forward.pair, ClassPair::Standard);
        assert!("udp:0.0.0.0:53=udp:ns.test:53".parse::<Forward>().is_ok());
        assert_eq!("tcp:[::]:1=tcp:a:1@bulk".parse::<Forward>().unwrap().pair, ClassPair::Bulk);
        for bad in [
            "tcp:0.0.0.0:53=udp:ns.test:53",
            "0.0.0.0:1=tcp:a:1",
            "tcp:1=tcp:a:1",
            "tcp:0.0.0.0:1",
            "",
            "tcp:[::]:1=tcp:a:1@fast",
        ] {
            assert_eq!(bad.parse::<Forward>(), Err(BadForward), "{bad}");
        }
    }
}
