//! How QUIC is set up, the same at both ends.

use std::{sync::Arc, time::Duration};

use quinn::{
    ClientConfig, IdleTimeout, MtuDiscoveryConfig, NoneTokenStore, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use sluice_connector_wire::ALPN_TUNNEL;
use thiserror::Error;

use super::congestion::ByDistance;
use crate::{STREAM_WINDOW, WINDOW_RESERVE, yamux::FIRST_WINDOW};

/// Streams that a gateway may have open on one connection. A server's own limit lies below it.
pub const GATEWAY_STREAMS: u32 = 256;
/// Streams that an agent may have open: its line.
pub const AGENT_STREAMS: u32 = 1;
/// What all streams of a connection may send ahead of their readers, in bytes: the least window of each and all that
/// windows may grow by. So streams that nobody reads leave room for those that are read.
pub const CONNECTION_WINDOW: u32 = GATEWAY_STREAMS * FIRST_WINDOW + WINDOW_RESERVE;
/// The peer's one unidirectional stream, see [`super::credit`].
const CREDIT_STREAMS: u32 = 1;
/// Bytes of ours that may wait for acknowledgement on one connection.
pub const SEND_WINDOW: u64 = 16 * 1024 * 1024;
/// Datagrams that wait to be sent, and received ones that wait to be sorted, in bytes each; the oldest are dropped.
pub const DATAGRAM_BUFFER: usize = 512 * 1024;
/// A connection that hears nothing for so long is dead. QUIC waits for three of its retransmission timeouts, too.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(IDLE_MILLIS as u64);
const IDLE_MILLIS: u32 = 3000;
/// Below the line's own ping, so that a connection whose line is silent stays up.
pub const KEEP_ALIVE: Duration = Duration::from_millis(1000);
/// Every IPv6 path carries packets of 1,280 bytes: 1,232 of ours (RFC 8200 §5). Larger ones are found by probing.
const SURE_MTU: u16 = 1200;
/// Handshake bytes that may arrive out of order, per connection.
const HANDSHAKE_BUFFER: usize = 16 * 1024;
/// Connections that have sent a first packet and wait to be looked at.
const MAX_INCOMING: usize = 256;
/// Early bytes kept for each of those, and for all.
const INCOMING_BYTES: (u64, u64) = (64 * 1024, 4 * 1024 * 1024);
/// How long a stranger has to come back with a Retry token.
const RETRY_LIFE: Duration = Duration::from_secs(10);
/// Assumed until it is measured; a lost first packet is repeated after three times this.
pub(super) const FIRST_RTT: Duration = Duration::from_millis(100);

/// The TLS settings given do not do for QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadTls {
    /// The cryptography linked has no cipher suite for QUIC's first packets.
    #[error("the linked cryptography has no AES-128-GCM for QUIC's first packets")]
    NoInitialSuite,
}

/// For the agent's end. `tls` must be TLS 1.3 only; its ALPN is replaced by the tunnel's.
///
/// # Errors
/// [`BadTls`].
pub fn client_config(mut tls: rustls::ClientConfig) -> Result<ClientConfig, BadTls> {
    tls.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::with_initial(Arc::new(tls), initial()?).map_err(|_| BadTls::NoInitialSuite)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(GATEWAY_STREAMS)));
    config.token_store(Arc::new(NoneTokenStore));
    Ok(config)
}

/// For the gateway's end. `tls` must be TLS 1.3 only; its ALPN is replaced by the tunnel's.
///
/// # Errors
/// [`BadTls`].
pub fn server_config(mut tls: rustls::ServerConfig) -> Result<ServerConfig, BadTls> {
    tls.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::with_initial(Arc::new(tls), initial()?).map_err(|_| BadTls::NoInitialSuite)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(AGENT_STREAMS)));
    config.migration(true);
    config.retry_token_lifetime(RETRY_LIFE);
    config.max_incoming(MAX_INCOMING);
    config.incoming_buffer_size(INCOMING_BYTES.0);
    config.incoming_buffer_size_total(INCOMING_BYTES.1);
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    config.validation_token_config(tokens);
    Ok(config)
}

/// QUIC's first packets are always AES-128-GCM under keys that everybody knows (RFC 9001 §5.2); what is secret uses
/// the suites of the settings given.
fn initial() -> Result<rustls::quic::Suite, BadTls> {
    TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite()).ok_or(BadTls::NoInitialSuite)
}

fn transport(peer_streams: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(peer_streams.into())
        .max_concurrent_uni_streams(CREDIT_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .crypto_buffer_size(HANDSHAKE_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .initial_mtu(SURE_MTU)
        .min_mtu(SURE_MTU)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
        .initial_rtt(FIRST_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MILLIS))))
        .congestion_controller_factory(Arc::new(ByDistance))
        .allow_spin(false);
    config
}
