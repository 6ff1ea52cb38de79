//! What travels in a tunnel and who may believe it: documents, allow-list, stream tokens, frames.
//!
//! Pure: time and randomness are passed in.

mod allow;
mod changes;
mod document;
mod explain;
mod frame;
mod gatekeeper;
mod hours;
mod jwk;
mod jws;
mod keeper;
mod pair;
mod peer;
mod ports;
pub mod race;
mod refusal;
mod rule;
mod sign;
mod spent;
mod token;
mod transport;

pub use allow::{AllowList, Caller, CallerKind, SignedAllowList};
pub use changes::{list_changes, when};
pub use document::{ConnectorDocument, GatewayEndpoint, SCHEMA};
pub use explain::{Decision, Explanation, Judged, explain};
pub use frame::{
    AgentHello, AgentSays, FrameError, GatewaySays, MAX_FRAME, OpenReply, OpenRequest, RelayOpen, StreamKind,
    decode_frame, encode_frame, frame_length,
};
pub use gatekeeper::{
    Denied, Examined, Examiner, Gatekeeper, Granted, MAX_TOKEN_LIFE, Presented, SPENT_PER_CALLER, Spent, TOKEN_LEEWAY,
};
pub use hours::{BadWindow, Day, Hours, WeeklyWindow, hours};
pub use jwk::{Algorithm, BadKey, VerifyingKey, thumbprint};
pub use keeper::{
    AllowListKeeper, CheckedList, LIST_LEEWAY, ListPosition, ListRefused, MAX_CALLERS, MAX_LIST_BYTES, MAX_LIST_LIFE,
    MAX_RULES, MAX_SUCCESSION, certificate_hash,
};
pub use pair::{ClassPair, NoPair};
pub use peer::{ALPN_RELAY, ALPN_SEALED, ALPN_TUNNEL, BadPeer, NodeVerifier, Peer};
pub use ports::{BadPorts, Ports};
pub use refusal::{Fault, Refusal};
pub use rule::{AllowRule, Exception, MAX_EXCEPTION, MAX_WINDOWS, Protocol, Question, RuleFault, Verdict};
pub use sign::{
    CONTROL, PolicyKey, SignError, TokenSigner, adopts, sign_adoption, sign_allow_list, sign_proposed_list,
    sign_stream_token, sign_succession, succeeds,
};
pub use token::{BadTarget, StreamClaims, Target};
pub use transport::Transport;
