//! Who may reach what through a gateway: its document, login flows, sessions, app policy, identity assertions.
//!
//! Pure: time and randomness are passed in.

mod assertion;
mod code;
mod cookie;
mod document;
mod flow;
mod grant;
mod head;
mod header;
mod plan;
mod revoked;
mod seal;
mod session;

pub use assertion::{ASSERTION_HEADER, ASSERTION_SECONDS, Assertion, AssertionKey, BadAssertionKey};
pub use code::{CODE_SECONDS, CodeRefused, SPENT_CODES, SpentCodes};
pub use cookie::{Cookies, LOGIN_COOKIE, NONCE_COOKIE, SESSION_COOKIE, SetCookie, may_set_cookie};
pub use document::{App, GatewayDocument, Relay, SCHEMA, Secret, Splice, Upstream};
pub use flow::{Begun, Completed, Entered, FlowRefused, LOGIN_SECONDS, LoginPage, ReturnTo};
pub use grant::{Denied, Permitted, permit};
pub use head::{Head, HeadError, HeadReader, MAX_HEAD, MAX_HEADERS, header_ambiguity};
pub use header::removed_from_request;
pub use plan::{BadDocument, MAX_SESSION_SECONDS, Plan};
pub use revoked::{
    LOGOUTS_KEPT, Logouts, SessionStanding, UserStanding, is_node_revoked, session_key, standing, user_key,
};
pub use seal::Randomness;
pub use session::{MAX_COOKIE, Session, SessionId, Strength};
