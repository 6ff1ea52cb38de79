//! Every parser of sluice as a function of bytes that panics when an oracle is broken.
//!
//! The same functions are driven by `tests/replay.rs` (committed seeds and seeded mutations, in the gate) and by
//! libFuzzer (`fuzz/fuzz_targets`, open-ended). An oracle is more than "does not panic": round trips, two readers that
//! must agree, answers that may not change when more bytes come, refusals that change nothing, secrets that must not
//! be printed. Signatures are in the way of mutation, so targets behind one have a second mode in which the bytes are
//! signed with a throw-away key first: then everything after the signature is reached.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "an oracle speaks by panicking; nothing of this is part of the product"
)]

mod admin;
mod codec;
mod egress;
pub mod fixtures;
mod kernel;
mod lan;
mod mux;
mod names;
mod pki;
mod sync;
mod tls;
mod tunnel;
mod wallet;
mod watch;
mod web;
mod worker;

// Parsers that their shells keep to themselves, compiled here from the same files: making them public for the sake of
// fuzzing would widen what the shells promise, and a copy would not be what runs. They are pure but for reading from a
// stream.
#[path = "../../../control/server/src/est/http.rs"]
#[allow(dead_code, reason = "only the reader is called")]
mod est;
#[path = "../../../gateway/proxy/src/peer.rs"]
#[allow(unreachable_pub, reason = "the gateway exports it")]
mod gateway_peer;
#[path = "../../../control/server/src/listener/proxy.rs"]
mod proxy_reader;
#[path = "../../../gateway/proxy/src/splice.rs"]
#[allow(dead_code, reason = "only the writer of headers is called")]
mod proxy_writer;
#[path = "../../../node/client/src/sse.rs"]
mod sse;
#[path = "../../../connector/egress/src/worker/frame.rs"]
#[allow(dead_code, reason = "only readers and the writer they must agree with are called")]
mod worker_frame;
#[path = "../../../connector/mux/src/yamux/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "only what a peer reaches is called")]
mod yamux;

// As which end of a connection the session just named speaks.
use sluice_connector_mux::End;
#[path = "../../../control/wallet-daemon/src/frame.rs"]
mod wallet_daemon_frame;

pub use admin::{assertion, hub_import};
pub use codec::take_accepted;
pub use egress::{keytab, no_proxy, ntlm, pac, proxy_challenge, proxy_reply};
pub use kernel::{kernel_message, links};
pub use lan::{dhcp, dns_answer, dns_query, edge_document, solicitation};
pub use mux::{datagrams, mux};
pub use names::{join_code, names, target};
pub use pki::{certificate, csr, pem_chain};
pub use sync::{declaration, detail, paging};
pub use tls::{client_hello, proxy_header};
pub use tunnel::{allow_list, jwk, stream_token, tunnel_frame};
pub use wallet::{wallet_frame, wallet_record};
pub use watch::{gateway_document, node_api, state_stream, watch};
pub use web::{cookies, est_request, http_head, sealed, set_cookie};
pub use worker::worker_frame;

/// A parser with its oracle: its name and what to call with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Calls `$each!` with the names of all targets.
#[macro_export]
macro_rules! for_each_target {
    ($each:ident) => {
        $each! {
            allow_list, assertion, certificate, client_hello, cookies, csr, datagrams, declaration, detail, dhcp, dns_answer,
            dns_query, edge_document, est_request, gateway_document, http_head, hub_import, join_code, jwk,
            kernel_message, keytab, links, mux, names, no_proxy, node_api, ntlm, pac, paging, pem_chain, proxy_challenge,
            proxy_header, proxy_reply, sealed, set_cookie, solicitation, state_stream, stream_token, target,
            tunnel_frame, wallet_frame, wallet_record, watch, worker_frame
        }
    };
}

macro_rules! table {
    ($($name:ident),*) => {
        /// All targets, by name.
        pub const TARGETS: &[Target] = &[$((stringify!($name), $name)),*];
    };
}

for_each_target!(table);
