//! The one dial guard: which resolved addresses may be dialled for a target that configuration can steer.
//!
//! Pure. Resolve once, ask [`DialGuard::permit`], dial what [`Permitted`] holds and nothing else: a name that is
//! resolved again between check and dial may answer differently (DNS rebinding).

mod kind;
mod turns;

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use thiserror::Error;

pub use kind::Kind;
pub use turns::in_turns;

/// Most addresses of one target that are looked at.
pub const MAX_ADDRESSES: usize = 16;

/// Judges addresses. Public ones pass; all others must be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialGuard {
    networks: Vec<IpNetwork>,
}

/// Addresses that a guard let pass, in the resolver's order. Only [`DialGuard::permit`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    first: SocketAddr,
    all: Vec<SocketAddr>,
}

/// Why a target may not be dialled. The configuration's fault (or an attack); trying again does not help.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotPermitted {
    /// The name resolved to nothing.
    #[error("the name has no address")]
    NoAddress,
    /// Port 0.
    #[error("port 0 cannot be dialled")]
    NoPort,
    /// No address passed; this is the first one.
    #[error("{address} is {kind}; {}", kind.advice())]
    Refused {
        /// The address, as the resolver gave it.
        address: IpAddr,
        /// What it is.
        kind: Kind,
    },
}

impl DialGuard {
    /// A guard that besides public addresses lets those in `networks` pass, as far as [`Kind`] allows.
    pub fn new(networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        Self { networks: networks.into_iter().collect() }
    }

    /// Of a target's resolved `addresses`, those that may be dialled.
    ///
    /// # Errors
    /// [`NotPermitted`] when there are none.
    pub fn permit(&self, addresses: &[IpAddr], port: u16) -> Result<Permitted, NotPermitted> {
        if port == 0 {
            return Err(NotPermitted::NoPort);
        }
        let looked_at = addresses.get(..MAX_ADDRESSES).unwrap_or(addresses);
        // `::ffff:a.b.c.d` would be dialled over IPv4 anyway, so it is judged and dialled as what it is.
        let canonical = looked_at.iter().map(IpAddr::to_canonical);
        let all: Vec<_> = canonical.filter(|at| self.permits(*at)).map(|at| SocketAddr::new(at, port)).collect();
        match (all.first(), looked_at.first()) {
            (Some(first), _) => Ok(Permitted { first: *first, all }),
            (None, Some(address)) => Err(NotPermitted::Refused { address: *address, kind: Kind::of(*address) }),
            (None, None) => Err(NotPermitted::NoAddress),
        }
    }

    fn permits(&self, address: IpAddr) -> bool {
        let kind = Kind::of(address);
        kind == Kind::Public || self.networks.iter().any(|network| kind.is_named_by(address, network))
    }
}

impl Permitted {
    /// The address to try first.
    #[must_use]
    pub const fn first(&self) -> SocketAddr {
        self.first
    }

    /// All addresses to try, at least one, at most [`MAX_ADDRESSES`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.all
    }
}
