//! What travels in a tunnel and who may believe it: documents, allow-list, stream tokens, frames.
//!
//! Pure: time and randomness are passed in.

mod allow;
mod document;
mod frame;
mod gatekeeper;
mod jwk;
mod jws;
mod keeper;
mod pair;
mod peer;
pub mod race;
mod refusal;
mod sign;
mod spent;
mod token;
mod transport;

pub use allow::{AllowList, AllowRule, Caller, CallerKind, Protocol, SignedAllowList};
pub use document::{ConnectorDocument, GatewayEndpoint, SCHEMA};
pub use frame::{
    AgentHello, AgentSays, FrameError, GatewaySays, MAX_FRAME, OpenReply, OpenRequest, RelayOpen, StreamKind,
    decode_frame, encode_frame, frame_length,
};
pub use gatekeeper::{
    Examined, Examiner, Gatekeeper, Granted, MAX_TOKEN_LIFE, Presented, SPENT_PER_CALLER, Spent, TOKEN_LEEWAY,
};
pub use jwk::{Algorithm, BadKey, VerifyingKey, thumbprint};
pub use keeper::{
    AllowListKeeper, CheckedList, LIST_LEEWAY, ListPosition, ListRefused, MAX_CALLERS, MAX_LIST_BYTES, MAX_LIST_LIFE,
    MAX_RULES, MAX_SUCCESSION, certificate_hash,
};
pub use pair::ClassPair;
pub use peer::{ALPN_RELAY, ALPN_SEALED, ALPN_TUNNEL, BadPeer, NodeVerifier, Peer};
pub use refusal::{Fault, Refusal};
pub use sign::{CONTROL, PolicyKey, SignError, TokenSigner, sign_allow_list, sign_stream_token, sign_succession};
pub use token::{BadTarget, StreamClaims, Target};
pub use transport::Transport;
