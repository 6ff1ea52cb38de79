//! The gateway's one listener: tunnels, relays, splices, and users' HTTPS with single sign-on in front of their apps.
//!
//! Shell: sockets and TLS are here, rules are in `sluice-gateway-access`. What lies behind (connector tunnels, control)
//! comes in as traits that this crate owns and `src/gateway/` implements.

mod certificates;
mod connection;
mod dial;
mod doors;
mod failure;
mod front;
mod http1;
mod journal;
mod limits;
mod listener;
mod live;
mod login;
mod pages;
mod peer;
mod quic;
mod respond;
mod service;
mod settings;
mod sign_on;
mod splice;
mod tunnels;
mod upstream;

pub use certificates::HostCertificate;
pub use doors::{
    BoxedIo, DirectOpen, DirectStreams, FactorsRefused, FrontTls, Io, Mark, NodeTls, OpenFailed, Parts,
    TunnelConnection, TunnelDoor, VerifyFactors,
};
pub use listener::{Bound, Gateway};
pub use peer::{PeerUnknown, spiffe_id};
pub use settings::{Limits, Settings};

/// ALPN of a connector's tunnel.
pub const TUNNEL_ALPN: &[u8] = b"sluice-tunnel/1";
/// ALPN of control's relays.
pub const RELAY_ALPN: &[u8] = b"sluice-relay/1";

/// A new P-256 key for [`sluice_gateway_access::AssertionKey::from_pkcs8`] (PKCS#8, DER); the caller keeps it, 0600.
///
/// # Errors
/// When the operating system has no randomness.
pub fn new_assertion_key() -> anyhow::Result<Vec<u8>> {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("no key could be made: the system's random source failed"))?;
    Ok(key.as_ref().to_vec())
}
